"""CSDS shows what each client has of each resource, over all transport variants."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from protos.client_status_pb2 import (
    ClientConfig,
    ClientStatusRequest,
    ClientStatusResponse,
    NodeMatcher,
    StructMatcher,
)
from protos.matcher_pb2 import (
    DoubleMatcher,
    DoubleRange,
    ListMatcher,
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)
from sluice.contract.paths import CSDS_FETCH, CSDS_SERVICE, CSDS_STREAM
from tests.xds.protocol.clients import MemoryWorld, Transport
from xds.protocol import client_status, resource_types
from xds.protocol.client_status import ClientStatusService
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.protocol.stream import Stream

VARIANTS = [
    Transport(resource_types.CLUSTER, incremental, aggregated)
    for incremental in (False, True)
    for aggregated in (True, False)
]
SYNCED = (ClientConfig.SYNCED, ClientConfig.ACKED)
SENT = (ClientConfig.STALE, ClientConfig.REQUESTED)
REJECTED = (ClientConfig.ERROR, ClientConfig.NACKED)
ABSENT = (ClientConfig.NOT_SENT, ClientConfig.DOES_NOT_EXIST)
NOT_SENT = (ClientConfig.NOT_SENT, ClientConfig.REQUESTED)


class Csds:
    """Asks a server about the nodes of a test."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._fetch = channel.unary_unary(
            f"/{CSDS_SERVICE}/{CSDS_FETCH}",
            ClientStatusRequest.SerializeToString,
            ClientStatusResponse.FromString,
        )
        self.channel = channel

    async def fetch(self, *matchers: NodeMatcher) -> Sequence[ClientConfig]:
        response: ClientStatusResponse = await self._fetch(
            ClientStatusRequest(node_matchers=matchers)
        )
        return response.config

    async def states(self) -> dict[str, tuple[int, int]]:
        """The states of the resources of the only client."""
        (config,) = await self.fetch()
        return {
            each.name: (each.config_status, each.client_status)
            for each in config.generic_xds_configs
        }

    async def refusal(self, *matchers: NodeMatcher) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.fetch(*matchers)
        return caught.value.code(), caught.value.details()


@asynccontextmanager
async def csds(directory: Path, nodes: Nodes) -> AsyncIterator[Csds]:
    address = f"unix:{directory}/xds"
    server = XdsServer(nodes, address, [ClientStatusService(nodes)])
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
            yield Csds(channel)
    finally:
        await server.stop()


@pytest.mark.parametrize("transport", VARIANTS, ids=str)
def test_a_client_is_shown_with_what_it_has_accepted_and_rejected(
    tmp_path: Path, transport: Transport
) -> None:
    async def test() -> None:
        plane = MemoryWorld(transport)
        plane.publish("v1", a="1", b="1")
        client = plane.client()
        await client.start("a", "b", "gone")
        async with csds(tmp_path, plane.nodes) as asked:
            assert await asked.states() == {"a": NOT_SENT, "b": NOT_SENT, "gone": ABSENT}
            response = await client.receive()
            assert await asked.states() == {"a": SENT, "b": SENT, "gone": ABSENT}
            await client.ack(response)
            assert await asked.states() == {"a": SYNCED, "b": SYNCED, "gone": ABSENT}
            plane.publish("v2", a="2", b="1")
            await client.nack(await client.receive(), "no such port")
            # A response of the state of the world is accepted or rejected as a whole.
            other = SYNCED if transport.incremental else REJECTED
            assert await asked.states() == {"a": REJECTED, "b": other, "gone": ABSENT}
            (config,) = await asked.fetch()
            (error, *_) = (
                each.error_state for each in config.generic_xds_configs if each.name == "a"
            )
            assert (error.details, error.version_info) == ("no such port", "v2")

    asyncio.run(test())


def test_the_version_is_that_on_the_wire(tmp_path: Path) -> None:
    async def test(transport: Transport) -> str:
        plane = MemoryWorld(transport)
        snapshot = plane.publish("v1", a="1")
        client = plane.client()
        await client.start("a")
        await client.accept()
        async with csds(tmp_path, plane.nodes) as asked:
            (config,) = await asked.fetch()
        (found,) = config.generic_xds_configs
        assert found.type_url == transport.type.url
        resource = snapshot.types[transport.type].resources["a"]
        assert found.version_info in {"v1", resource.version_text}
        version: str = found.version_info
        return version

    assert asyncio.run(test(VARIANTS[0])) == "v1"
    assert asyncio.run(test(VARIANTS[2])) != "v1"


def test_the_streams_of_single_types_are_one_client(tmp_path: Path) -> None:
    async def test() -> None:
        plane = MemoryWorld(VARIANTS[3])
        plane.publish("v1", a="1")
        for _ in range(2):
            await plane.client().start("a")
        async with csds(tmp_path, plane.nodes) as asked:
            (config,) = await asked.fetch()
            assert config.node.id == "client"
            assert len(config.generic_xds_configs) == 2

    asyncio.run(test())


def test_no_content_is_shown(tmp_path: Path) -> None:
    secret = "hunter2"

    async def test() -> None:
        plane = MemoryWorld(Transport(resource_types.SECRET, incremental=True, aggregated=True))
        plane.publish("v1", credential=secret)
        client = plane.client()
        await client.start("credential")
        await client.accept()
        async with csds(tmp_path, plane.nodes) as asked:
            (config,) = await asked.fetch()
            assert [each.name for each in config.generic_xds_configs] == ["credential"]
            assert secret.encode() not in config.SerializeToString()

    asyncio.run(test())


def text(**pattern: str) -> StringMatcher:
    return StringMatcher(**pattern)


def node_id(**pattern: str) -> NodeMatcher:
    return NodeMatcher(node_id=text(**pattern))


def metadata(key: str, **value: object) -> NodeMatcher:
    path = [StructMatcher.PathSegment(key=key)]
    return NodeMatcher(node_metadatas=[StructMatcher(path=path, value=ValueMatcher(**value))])


BETWEEN = DoubleMatcher(range=DoubleRange(start=1, end=3))


@pytest.mark.parametrize(
    ("matchers", "selected"),
    [
        ([], {"edge-1", "edge-2", "core"}),
        ([node_id(exact="core")], {"core"}),
        ([node_id(prefix="edge")], {"edge-1", "edge-2"}),
        ([node_id(suffix="-2")], {"edge-2"}),
        ([node_id(contains="dge")], {"edge-1", "edge-2"}),
        ([NodeMatcher(node_id=StringMatcher(exact="CORE", ignore_case=True))], {"core"}),
        ([node_id(exact="CORE")], set()),
        ([node_id(exact="core"), node_id(exact="edge-1")], {"core", "edge-1"}),
        ([metadata("site", string_match=text(exact="x"))], {"edge-1"}),
        ([metadata("pid", double_match=BETWEEN)], {"edge-2"}),
        ([metadata("pid", double_match=DoubleMatcher(exact=2))], {"edge-2"}),
        ([metadata("pid", present_match=True)], {"edge-2"}),
        ([metadata("site", double_match=BETWEEN)], set()),
        ([metadata("pid", string_match=text(exact="2"))], set()),
    ],
)  # fmt: skip
def test_matchers_select_clients(
    tmp_path: Path, matchers: Iterable[NodeMatcher], selected: set[str]
) -> None:
    nodes = Nodes(lambda: 0.0)
    for name, found in (("edge-1", {"site": "x"}), ("edge-2", {"pid": 2.0}), ("core", {})):
        node = nodes.connect(Stream())
        node.id, node.metadata = name, dict[str, str | float](found)

    async def test() -> None:
        async with csds(tmp_path, nodes) as asked:
            assert {each.node.id for each in await asked.fetch(*matchers)} == selected

    asyncio.run(test())


def regex() -> NodeMatcher:
    return NodeMatcher(node_id=StringMatcher(safe_regex=RegexMatcher(regex="(a+)+b")))


def deep() -> NodeMatcher:
    path = [StructMatcher.PathSegment(key=key) for key in "ab"]
    value = ValueMatcher(present_match=True)
    return NodeMatcher(node_metadatas=[StructMatcher(path=path, value=value)])


@pytest.mark.parametrize(
    ("matchers", "details"),
    [
        ([regex()], "only exact, prefix, suffix and contains"),
        ([NodeMatcher(node_id=StringMatcher())], "only exact, prefix, suffix and contains"),
        ([deep()], "only one key"),
        ([metadata("a", list_match=ListMatcher())], "only one key"),
        ([node_id(exact="a")] * 101, "more than 100 matchers"),
    ],
)
def test_a_matcher_that_is_not_supported_is_an_error(
    tmp_path: Path, matchers: Sequence[NodeMatcher], details: str
) -> None:
    async def test() -> None:
        async with csds(tmp_path, Nodes(lambda: 0.0)) as asked:
            code, text = await asked.refusal(*matchers)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details in text

    asyncio.run(test())


def test_too_many_resources_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_status, "MAX_RESOURCES", 3)

    async def test() -> None:
        plane = MemoryWorld(VARIANTS[1])
        plane.publish("v1", a="1")
        for count, names in ((1, ["a", "b"]), (2, ["c", "d"])):
            await plane.client().start(*names)
            async with csds(tmp_path, plane.nodes) as asked:
                if count == 1:
                    assert await asked.fetch()
                else:
                    assert (await asked.refusal())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(test())


def test_a_stream_gets_a_response_to_each_request_and_ends_with_the_server(tmp_path: Path) -> None:
    async def test() -> None:
        nodes = Nodes(lambda: 0.0)
        address = f"unix:{tmp_path}/xds"
        server = XdsServer(nodes, address, [ClientStatusService(nodes)])
        await server.start()
        async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
            call = channel.stream_stream(f"/{CSDS_SERVICE}/{CSDS_STREAM}")()
            for expected in (0, 1):
                await call.write(b"")
                assert len(ClientStatusResponse.FromString(await call.read()).config) == expected
                nodes.connect(Stream())
            await server.stop()
            assert await call.code() is grpc.StatusCode.OK

    asyncio.run(test())


def test_clients_that_take_no_response_are_bounded_in_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_status, "MAX_CALLS", 2)

    async def test() -> None:
        async with csds(tmp_path, Nodes(lambda: 0.0)) as asked:
            open_stream = asked.channel.stream_stream(f"/{CSDS_SERVICE}/{CSDS_STREAM}")
            calls = [open_stream() for _ in range(2)]
            for call in calls:
                await call.write(b"")
                assert await call.read() == b""
            assert (await asked.refusal())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in calls:
                await call.done_writing()
                assert await call.code() is grpc.StatusCode.OK
            assert not await asked.fetch()

    asyncio.run(test())


def test_a_request_that_is_not_protobuf_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with csds(tmp_path, Nodes(lambda: 0.0)) as asked:
            call = asked.channel.unary_unary(f"/{CSDS_SERVICE}/{CSDS_FETCH}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\xff")
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(test())
