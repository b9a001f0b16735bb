"""A real gRPC client gets the keys that switch native routes on, as an Envoy does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest

from extproc.policy.compiled import NativeRoutes
from extproc.services.native_runtime import NativeRuntimeService, on_keys
from extproc.transport import serve
from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from protos.runtime_pb2 import Runtime
from sluice.contract.names import NATIVE_RUNTIME, RUNTIME_TYPE_URL
from sluice.contract.paths import RUNTIME

pytestmark = pytest.mark.anyio

M = NativeRoutes("d1", "m", ("m/v1", "m/v2"))
N = NativeRoutes("d2", "n", ("n/v1",))
M_V2 = {"sluice.native.d1.m/v2"}
M_ON = {"sluice.native.d1.m", "sluice.native.d1.m/v1", *M_V2}
N_ON = {"sluice.native.d2.n", "sluice.native.d2.n/v1"}


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
        """The version and the keys of the only response. All values must be 100."""
        response = await self.call.read()
        assert isinstance(response, DiscoveryResponse)
        assert response.type_url == RUNTIME_TYPE_URL
        (resource,) = response.resources
        assert resource.type_url == RUNTIME_TYPE_URL
        runtime = Runtime.FromString(resource.value)
        assert runtime.name == NATIVE_RUNTIME
        assert set(runtime.layer.values()) <= {100}
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

    def vouch(self, *routes: NativeRoutes) -> None:
        self.service.vouch(routes)
        self.service.publish()

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
    service.vouch((M, N))
    serving = serve("asyncio", service.services(), "127.0.0.1:0")
    address = await serving.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Server(service, channel, off)
    await serving.close()


def test_a_model_is_on_only_if_all_its_versions_are() -> None:
    assert set(on_keys(M, ())) == M_ON
    assert set(on_keys(M, {"m/v1", "n/v1"})) == M_V2
    assert on_keys(N, {"n/v1"}) == []


async def test_a_client_gets_the_layer_and_then_each_change(server: Server) -> None:
    version = ""
    for off, expected in (
        ([], M_ON | N_ON),
        (["m/v1"], M_V2 | N_ON),
        (["m/v1", "m/v2", "n/v1"], set()),
        (["other/v1"], M_ON | N_ON),
    ):
        server.publish(*off)
        stream = server.stream()
        await stream.subscribe(NATIVE_RUNTIME, version=version)
        version, keys = await stream.keys()
        assert keys == expected


async def test_routes_of_another_policy_are_off(server: Server) -> None:
    """An edit of a model changes its digest. Routes that Envoy still has get no key."""
    first, waiting = server.stream(), server.stream()
    await first.subscribe(NATIVE_RUNTIME)
    version, _ = await first.keys()
    await waiting.subscribe(NATIVE_RUNTIME, version=version)
    await server.pass_messages()
    server.vouch(NativeRoutes("d3", "m", ("m/v1",)), N)
    version, keys = await waiting.keys()
    assert keys == {"sluice.native.d3.m", "sluice.native.d3.m/v1"} | N_ON
    last = server.stream()
    await last.subscribe(NATIVE_RUNTIME, version=version)
    await server.pass_messages()
    server.publish()
    server.vouch(N)
    _, keys = await last.keys()
    assert keys == N_ON


async def test_the_routes_of_two_policies_may_be_on(server: Server) -> None:
    staged = NativeRoutes("d3", "m", ("m/v1", "m/v2"))
    server.vouch(M, N, staged)
    stream = server.stream()
    await stream.subscribe(NATIVE_RUNTIME)
    version, keys = await stream.keys()
    of_stage = {each.replace("d1", "d3") for each in M_ON}
    assert keys == M_ON | N_ON | of_stage
    server.publish("m/v1")
    stream = server.stream()
    await stream.subscribe(NATIVE_RUNTIME, version=version)
    _, keys = await stream.keys()
    assert keys == N_ON | {each for each in M_ON | of_stage if each.endswith("/v2")}


def test_without_a_policy_no_route_is_on() -> None:
    _, response = NativeRuntimeService(tuple).response()
    (resource,) = DiscoveryResponse.FromString(response).resources
    assert Runtime.FromString(resource.value) == Runtime(name=NATIVE_RUNTIME)


async def test_a_client_waits_while_it_has_the_version_of_the_layer(server: Server) -> None:
    first, waiting = server.stream(), server.stream()
    await first.subscribe(NATIVE_RUNTIME)
    version, _ = await first.keys()
    await waiting.subscribe(NATIVE_RUNTIME, version=version)
    await server.pass_messages()
    server.publish()
    server.publish("m/v1")
    _, keys = await waiting.keys()
    assert keys == M_V2 | N_ON


async def test_all_workers_give_a_layer_the_same_version(server: Server) -> None:
    server.vouch(NativeRoutes("old", "m", ("m/v1",)))
    server.vouch(M, N)
    server.publish("m/v1", "other/v1")
    other = NativeRuntimeService(lambda: ["other/v1", "m/v1"])
    # A worker that has started later may have the models in another order.
    other.vouch((N, M))
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
    assert keys == M_V2 | N_ON


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
