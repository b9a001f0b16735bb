"""The config source of istiod, with a client that sends what istiod's client sends.

`MESH_CONFIG` and `TYPES` are the requests of istiod 1.31 (`istio.io/istio/pkg/adsc`), in its order.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest

from protos.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse
from protos.istio_mcp_pb2 import Resource as Envelope
from protos.istio_networking_pb2 import ServiceEntry, VirtualService
from sluice.config.mcp import Mcp
from sluice.contract.paths import ADS_DELTA_METHOD, ADS_METHOD, ADS_SERVICE
from xds.istio.mcp import (
    MAX_CALLS,
    MAX_CONNECTIONS,
    MAX_OTHER_TYPES,
    MAX_REQUEST,
    MAX_STREAMS,
    istiod_server,
)
from xds.istio.resources import IstioKind, IstioResource
from xds.istio.served import istio_sets
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import CLUSTER, POLICY, VIRTUAL_SERVICE
from xds.protocol.snapshot import EMPTY, Resource, Snapshot

MESH_CONFIG = "core/v1alpha1/MeshConfig"
SERVICE_ENTRIES = "networking.istio.io/v1/ServiceEntry"
RULES = "networking.istio.io/v1/DestinationRule"
ROUTES = "networking.istio.io/v1/VirtualService"
TYPES = (
    MESH_CONFIG,
    "security.istio.io/v1/AuthorizationPolicy",
    RULES,
    "networking.istio.io/v1alpha3/EnvoyFilter",
    "networking.istio.io/v1/Gateway",
    "security.istio.io/v1/PeerAuthentication",
    "networking.istio.io/v1beta1/ProxyConfig",
    "security.istio.io/v1/RequestAuthentication",
    SERVICE_ENTRIES,
    "networking.istio.io/v1/Sidecar",
    "telemetry.istio.io/v1/Telemetry",
    "extensions.istio.io/v1alpha1/TrafficExtension",
    ROUTES,
    "extensions.istio.io/v1alpha1/WasmPlugin",
    "networking.istio.io/v1/WorkloadEntry",
    "networking.istio.io/v1/WorkloadGroup",
)
NODE = "sidecar~192.0.2.2~istiod-0.istio-system~istio-system.svc.cluster.local"

PATIENCE = 30


def resources(*hosts: str) -> list[IstioResource]:
    entries = [
        IstioResource(IstioKind.SERVICE_ENTRY, "sluice", host, ServiceEntry(hosts=[host]))
        for host in hosts
    ]
    routes = VirtualService(hosts=hosts)
    return [*entries, IstioResource(IstioKind.VIRTUAL_SERVICE, "sluice", "sluice", routes)]


def snapshot(*hosts: str, version: str = "v1") -> Snapshot:
    """The snapshot of a config with these hosts in the mesh, and with a cluster and a policy."""
    own = {CLUSTER: {"c": Resource.of(b"cluster")}, POLICY: {"p": Resource.of(b"secret")}}
    return Snapshot.of(own, version).with_types(istio_sets(resources(*hosts), version))


@dataclass
class Istiod:
    """A stream of istiod: it holds the resources that it has, by type and by NAMESPACE/NAME."""

    call: grpc.aio.StreamStreamCall
    held: dict[str, dict[str, Envelope]] = field(default_factory=dict)
    rejects: bool = False

    async def subscribe(self, *types: str) -> None:
        """Request types as istiod does: without a version, with a nonce that nobody has sent."""
        for number, url in enumerate(types):
            message = DiscoveryRequest(type_url=url, response_nonce="2026-11-26 14:03:43 +0000")
            if number == 0:
                message.node.id = NODE
                message.node.metadata["GENERATOR"] = "api"
            await self.call.write(message)

    async def receive(self) -> DiscoveryResponse:
        """Take a response into use, and accept it."""
        async with asyncio.timeout(PATIENCE):
            response: DiscoveryResponse = await self.call.read()
        assert isinstance(response, DiscoveryResponse), await self.call.code()
        taken = {}
        for each in response.resources:
            envelope = Envelope()
            assert each.type_url == "type.googleapis.com/istio.mcp.v1alpha1.Resource"
            envelope.ParseFromString(each.value)
            taken[envelope.metadata.name] = envelope
        self.held[response.type_url] = taken
        acknowledgement = DiscoveryRequest(
            type_url=response.type_url,
            version_info=response.version_info,
            response_nonce=response.nonce,
        )
        acknowledgement.node.id = NODE
        if self.rejects:
            acknowledgement.error_detail.message = "no"
        await self.call.write(acknowledgement)
        return response

    def names(self, url: str) -> set[str]:
        return set(self.held[url])


@dataclass
class Plane:
    """The nodes of the xDS server, those of the server for istiod, and its address."""

    nodes: Nodes
    istiods: Nodes
    address: str

    @asynccontextmanager
    async def istiod(self) -> AsyncIterator[Istiod]:
        async with grpc.aio.insecure_channel(self.address) as channel:
            yield Istiod(stream(channel))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for requests of istiod until a condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.istiods.progress.clear()
                await self.istiods.progress.wait()


def stream(channel: grpc.aio.Channel, method: str = ADS_METHOD) -> grpc.aio.StreamStreamCall:
    return channel.stream_stream(
        f"/{ADS_SERVICE}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=DiscoveryResponse.FromString,
    )()


@asynccontextmanager
async def plane(folder: Path) -> AsyncIterator[Plane]:
    istiods = Nodes(time.time, max_streams=MAX_STREAMS)
    nodes = Nodes(time.time, followers=(istiods,))
    # A Unix socket, so that no other process takes the port.
    mcp = Mcp.model_construct(address=f"unix:{folder}/mcp")
    server = istiod_server(istiods, mcp)
    await server.start()
    try:
        yield Plane(nodes, istiods, mcp.address)
    finally:
        await server.stop()


def run(folder: Path, behaviour: Callable[[Plane], Awaitable[None]]) -> None:
    async def test() -> None:
        async with plane(folder) as served:
            await behaviour(served)

    asyncio.run(test())


def test_istiod_gets_a_response_for_every_type(tmp_path: Path) -> None:
    async def behaviour(served: Plane) -> None:
        served.nodes.publish(snapshot("a.example"))
        async with served.istiod() as istiod:
            await istiod.subscribe(*TYPES)
            for _ in TYPES:
                await istiod.receive()
            assert set(istiod.held) == set(TYPES)
            assert istiod.names(SERVICE_ENTRIES) == {"sluice/a.example"}
            assert istiod.names(ROUTES) == {"sluice/sluice"}
            others = set(TYPES) - {SERVICE_ENTRIES, ROUTES}
            assert all(not istiod.held[url] for url in others)
            await served.until(lambda: served.istiods.acks[VIRTUAL_SERVICE] == 1)
            (node,) = served.istiods
            assert (node.kind, node.id, node.version) == ("istiod", NODE, "v1")

    run(tmp_path, behaviour)


def test_a_resource_has_a_name_a_version_and_the_message_of_istio(tmp_path: Path) -> None:
    async def behaviour(served: Plane) -> None:
        served.nodes.publish(snapshot("a.example", "b.example"))
        async with served.istiod() as istiod:
            await istiod.subscribe(SERVICE_ENTRIES)
            await istiod.receive()
            before = dict(istiod.held[SERVICE_ENTRIES])
            entry = before["sluice/a.example"]
            assert entry.body.type_url == (
                "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"
            )
            assert ServiceEntry.FromString(entry.body.value).hosts == ["a.example"]
            versions = {each.metadata.version for each in before.values()}
            assert len(versions) == 2
            served.nodes.publish(snapshot("a.example", version="v2"))
            await istiod.receive()
            # istiod applies a resource again only if its version differs.
            assert istiod.held[SERVICE_ENTRIES] == {"sluice/a.example": entry}

    run(tmp_path, behaviour)


def test_a_change_is_pushed_and_what_did_not_change_is_not(tmp_path: Path) -> None:
    async def behaviour(served: Plane) -> None:
        served.nodes.publish(snapshot("a.example"))
        async with served.istiod() as istiod:
            await istiod.subscribe(*TYPES)
            for _ in TYPES:
                await istiod.receive()
            await served.until(lambda: served.istiods.acks.total() == 3)
            served.nodes.publish(snapshot("a.example", "b.example", version="v2"))
            pushed = [(await istiod.receive()).type_url for _ in range(2)]
            # Hosts before routes.
            assert pushed == [SERVICE_ENTRIES, ROUTES]
            assert istiod.names(SERVICE_ENTRIES) == {"sluice/a.example", "sluice/b.example"}

    run(tmp_path, behaviour)


def test_istiod_keeps_what_it_has_until_a_config_is_in_force(tmp_path: Path) -> None:
    """An empty response of a control plane that has only started would remove all routes."""

    async def behaviour(served: Plane) -> None:
        async with served.istiod() as istiod:
            await istiod.subscribe(*TYPES)
            for _ in range(len(TYPES) - 3):
                await istiod.receive()
            assert {SERVICE_ENTRIES, RULES, ROUTES}.isdisjoint(istiod.held)
            served.nodes.publish(snapshot("a.example"))
            for _ in range(3):
                await istiod.receive()
            assert istiod.names(SERVICE_ENTRIES) == {"sluice/a.example"}
            # Without a config in force, a rejected first config is taken back.
            served.nodes.publish(EMPTY)
            served.nodes.publish(snapshot("b.example", version="v2"))
            await istiod.receive()
            assert istiod.names(SERVICE_ENTRIES) == {"sluice/b.example"}

    run(tmp_path, behaviour)


def test_a_rejection_changes_nothing_for_others(tmp_path: Path) -> None:
    async def behaviour(served: Plane) -> None:
        served.nodes.publish(snapshot("a.example"))
        async with served.istiod() as stranger, served.istiod() as istiod:
            stranger.rejects = True
            await stranger.subscribe(ROUTES)
            await stranger.receive()
            await served.until(lambda: served.istiods.nacks[VIRTUAL_SERVICE] == 1)
            assert served.nodes.nack() is None
            assert served.nodes.all_in_sync((CLUSTER, VIRTUAL_SERVICE))
            await istiod.subscribe(ROUTES)
            await istiod.receive()
            assert istiod.names(ROUTES) == {"sluice/sluice"}

    run(tmp_path, behaviour)


@pytest.mark.parametrize("url", [CLUSTER.url, POLICY.url, "", "x"])
def test_other_resources_are_not_served(tmp_path: Path, url: str) -> None:
    async def behaviour(served: Plane) -> None:
        served.nodes.publish(snapshot("a.example"))
        async with served.istiod() as istiod:
            await istiod.subscribe(url)
            assert not (await istiod.receive()).resources

    run(tmp_path, behaviour)


def test_names_of_resources_are_ignored(tmp_path: Path) -> None:
    async def behaviour(served: Plane) -> None:
        served.nodes.publish(snapshot("a.example"))
        async with served.istiod() as istiod:
            await istiod.call.write(DiscoveryRequest(type_url=ROUTES, resource_names=["x"]))
            await istiod.receive()
            assert istiod.names(ROUTES) == {"sluice/sluice"}

    run(tmp_path, behaviour)


def test_another_version_of_a_type_gets_no_response(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An old istiod does not become ready, instead of removing the routes of its mesh."""
    old = "networking.istio.io/v1alpha3/VirtualService"

    async def behaviour(served: Plane) -> None:
        served.nodes.publish(snapshot("a.example"))
        async with served.istiod() as istiod:
            await istiod.subscribe(old, ROUTES)
            assert (await istiod.receive()).type_url == ROUTES

    run(tmp_path, behaviour)
    assert f"requests unknown type {old}" in caplog.text


async def status(call: grpc.aio.StreamStreamCall) -> grpc.StatusCode:
    """How the server ends a stream."""
    async with asyncio.timeout(PATIENCE):
        with suppress(grpc.aio.AioRpcError):
            while isinstance(await call.read(), DiscoveryResponse):
                pass
        return await call.code()


HOSTILE: Mapping[str, list[DiscoveryRequest]] = {
    "many types": [DiscoveryRequest(type_url=f"t/{n}") for n in range(MAX_OTHER_TYPES + 1)],
    "a long type": [DiscoveryRequest(type_url="t" * 1000)],
    "a long request": [DiscoveryRequest(type_url="t", resource_names=["n" * MAX_REQUEST])],
}


@pytest.mark.parametrize("requests", HOSTILE.values(), ids=list(HOSTILE))
def test_the_memory_of_a_stream_is_bounded(
    tmp_path: Path, requests: list[DiscoveryRequest]
) -> None:
    async def behaviour(served: Plane) -> None:
        async with served.istiod() as stranger:
            for each in requests:
                try:
                    await stranger.call.write(each)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    break
            assert await status(stranger.call) is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(tmp_path, behaviour)


def test_the_number_of_streams_is_bounded(tmp_path: Path) -> None:
    async def behaviour(served: Plane) -> None:
        async with AsyncExitStack() as opened:
            # Each channel has a connection of its own.
            own = (("grpc.use_local_subchannel_pool", 1),)
            channels = [
                await opened.enter_async_context(grpc.aio.insecure_channel(served.address, own))
                for _ in range(MAX_STREAMS // MAX_CALLS + 1)
            ]
            held = [stream(channels[number // MAX_CALLS]) for number in range(MAX_STREAMS)]
            for each in held:
                await each.write(DiscoveryRequest(type_url="t"))
                assert isinstance(await each.read(), DiscoveryResponse)
            assert await status(stream(channels[-1])) is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(tmp_path, behaviour)


def test_the_server_has_no_other_methods(tmp_path: Path) -> None:
    async def behaviour(served: Plane) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            call = stream(channel, ADS_DELTA_METHOD)
            await call.write(DeltaDiscoveryRequest(type_url=ROUTES))
            assert await status(call) is grpc.StatusCode.UNIMPLEMENTED

    run(tmp_path, behaviour)


HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The beginning of a connection: the preface, and SETTINGS without any (RFC 9113 section 3.4)."""


async def settings(address: str, opened: AsyncExitStack) -> dict[int, int]:
    """The settings of the server for a new connection; none if it closes the connection."""
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    opened.callback(writer.close)
    writer.write(HTTP2)
    try:
        async with asyncio.timeout(PATIENCE):
            length = int.from_bytes((await reader.readexactly(9))[:3])
            payload = await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError):
        return {}
    entries = (payload[start : start + 6] for start in range(0, length, 6))
    return {int.from_bytes(each[:2]): int.from_bytes(each[2:]) for each in entries}


def test_connections_and_their_calls_are_bounded(tmp_path: Path) -> None:
    """Else a stranger takes the file descriptors or the memory of the control plane."""
    max_concurrent_streams = 3  # RFC 9113 section 6.5.2

    async def behaviour(served: Plane) -> None:
        async with AsyncExitStack() as opened:
            found = [await settings(served.address, opened) for _ in range(MAX_CONNECTIONS + 8)]
        assert [each.get(max_concurrent_streams) for each in found] == [
            *[MAX_CALLS] * MAX_CONNECTIONS,
            *[None] * 8,
        ]

    run(tmp_path, behaviour)
