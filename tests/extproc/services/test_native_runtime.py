"""A real gRPC client gets the keys that switch native routes off, as an Envoy does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest

from extproc.services.native_runtime import NativeRuntimeService, layer
from extproc.transport import serve
from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from protos.runtime_pb2 import Runtime
from sluice.contract.names import NATIVE_RUNTIME, RUNTIME_TYPE_URL
from sluice.contract.paths import RUNTIME

pytestmark = pytest.mark.anyio


class Stream:
    """A stream as Envoy opens it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call = channel.stream_stream(
            RUNTIME, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )(timeout=10)

    async def subscribe(self, *names: str, version: str = "") -> None:
        """Subscribe to these names. `version` is the version that the client has."""
        await self.call.write(
            DiscoveryRequest(type_url=RUNTIME_TYPE_URL, resource_names=names, version_info=version)
        )

    async def keys(self) -> tuple[str, set[str]]:
        """The version and the keys of the only response. All values must be 0."""
        response = await self.call.read()
        assert isinstance(response, DiscoveryResponse)
        assert response.type_url == RUNTIME_TYPE_URL
        (resource,) = response.resources
        assert resource.type_url == RUNTIME_TYPE_URL
        runtime = Runtime.FromString(resource.value)
        assert runtime.name == NATIVE_RUNTIME
        assert set(runtime.layer.values()) <= {0}
        assert await self.call.read() is grpc.aio.EOF
        assert await self.call.code() is grpc.StatusCode.OK
        return response.version_info, set(runtime.layer)


@dataclass
class Server:
    service: NativeRuntimeService
    channel: grpc.aio.Channel
    off: set[str] = field(default_factory=set)

    def stream(self) -> Stream:
        return Stream(self.channel)

    def publish(self, *off: str) -> None:
        self.off.clear()
        self.off.update(off)
        self.service.publish()

    async def pass_messages(self) -> None:
        """Wait until the service has processed what all clients have sent: messages of a
        connection arrive in order.
        """
        probe = self.stream()
        await probe.subscribe(NATIVE_RUNTIME, version="none")
        await probe.keys()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    off: set[str] = set()
    service = NativeRuntimeService(lambda: off)
    serving = serve("asyncio", service.services(), "127.0.0.1:0")
    address = await serving.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Server(service, channel, off)
    await serving.close()


def test_a_version_that_is_off_has_a_key_and_so_has_its_model() -> None:
    assert layer({"m/v1", "m/v2", "n/v1"}) == {
        "sluice.native.m/v1": 0,
        "sluice.native.m/v2": 0,
        "sluice.native.m": 0,
        "sluice.native.n/v1": 0,
        "sluice.native.n": 0,
    }


async def test_a_client_gets_the_layer_and_then_each_change(server: Server) -> None:
    version = ""
    for off, expected in (
        ([], set()),
        (["m/v1"], {"sluice.native.m/v1", "sluice.native.m"}),
        ([], set()),
    ):
        server.publish(*off)
        stream = server.stream()
        await stream.subscribe(NATIVE_RUNTIME, version=version)
        version, keys = await stream.keys()
        assert keys == expected


async def test_a_client_waits_while_it_has_the_version_of_the_layer(server: Server) -> None:
    first, waiting = server.stream(), server.stream()
    await first.subscribe(NATIVE_RUNTIME)
    version, _ = await first.keys()
    await waiting.subscribe(NATIVE_RUNTIME, version=version)
    await server.pass_messages()
    server.publish()
    server.publish("m/v1")
    _, keys = await waiting.keys()
    assert keys == {"sluice.native.m/v1", "sluice.native.m"}


async def test_all_workers_give_a_layer_the_same_version(server: Server) -> None:
    server.publish("b/v1", "a/v1", "a/v2")
    other = NativeRuntimeService(lambda: ["a/v2", "a/v1", "b/v1"])
    assert server.service.response() == other.response()


async def test_a_client_that_asks_for_another_layer_gets_nothing_until_it_asks_for_this_one(
    server: Server,
) -> None:
    stream = server.stream()
    await stream.subscribe("other")
    await server.pass_messages()
    server.publish("m/v1")
    await stream.subscribe("other", NATIVE_RUNTIME)
    _, keys = await stream.keys()
    assert keys == {"sluice.native.m/v1", "sluice.native.m"}


async def test_streams_end_without_an_error_when_the_worker_stops(server: Server) -> None:
    streams = [server.stream() for _ in range(2)]
    for stream in streams:
        await stream.subscribe("other")
    await streams[0].call.done_writing()
    assert await streams[0].call.code() is grpc.StatusCode.OK
    server.service.close()
    assert await streams[1].call.code() is grpc.StatusCode.OK
    server.publish("m/v1")


@pytest.mark.parametrize("message", [b"\xff", DiscoveryRequest().SerializeToString()])
async def test_an_invalid_request_ends_the_stream(server: Server, message: bytes) -> None:
    call = server.channel.stream_stream(RUNTIME)(timeout=10)
    await call.write(message)
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    server.publish("m/v1")
