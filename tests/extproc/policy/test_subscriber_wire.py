"""The requests that a worker sends to its control plane."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc.aio
import pytest

from extproc.policy.received import ReceivedPolicy
from extproc.policy.subscriber import MAX_BACKOFF, Sleep, follow
from protos.base_pb2 import Node
from protos.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from sluice.config import PolicyDocument
from sluice.contract.names import POLICY_TYPE_URL
from sluice.contract.paths import ADS_DELTA
from tests.extproc.decision.requests import document
from tests.extproc.policy.received import resources

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

FIRST = document({"m": {}})
SECOND = document({"m": {"stable": "v2"}})
TIMEOUT = 60.0


class Stream:
    """One stream of a worker. Tests read its requests, send responses, and end it."""

    def __init__(self) -> None:
        self._requests: asyncio.Queue[DeltaDiscoveryRequest] = asyncio.Queue()
        self._responses: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def serve(self, call: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        async def listen() -> None:
            # The server may stop while it reads.
            with suppress(grpc.aio.BaseError):
                while (message := await call.read()) is not grpc.aio.EOF:
                    self._requests.put_nowait(DeltaDiscoveryRequest.FromString(message))

        listening = asyncio.create_task(listen())
        while (response := await self._responses.get()) is not None:
            await call.write(response)
        listening.cancel()

    async def request(self) -> DeltaDiscoveryRequest:
        return await asyncio.wait_for(self._requests.get(), TIMEOUT)

    def respond(
        self, version: str, nonce: str, resources: dict[str, bytes], removed: Sequence[str] = ()
    ) -> None:
        response = DeltaDiscoveryResponse(
            system_version_info=version,
            nonce=nonce,
            type_url=POLICY_TYPE_URL,
            removed_resources=removed,
        )
        for name, body in resources.items():
            resource = response.resources.add(name=name, version=f"{name} {version}")
            resource.resource.type_url, resource.resource.value = POLICY_TYPE_URL, body
        self.send(response.SerializeToString())

    def send(self, message: bytes) -> None:
        self._responses.put_nowait(message)

    def end(self) -> None:
        self._responses.put_nowait(None)


class Streams(asyncio.Queue[Stream]):
    """Streams in the order in which a worker opens them."""

    async def opened(self) -> Stream:
        return await asyncio.wait_for(self.get(), TIMEOUT)


@asynccontextmanager
async def worker(
    directory: Path, applied: list[PolicyDocument], sleep: Sleep = asyncio.sleep
) -> AsyncIterator[Streams]:
    """Run a subscription while the block runs."""
    streams = Streams()

    async def serve(_: object, call: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        stream = Stream()
        streams.put_nowait(stream)
        await stream.serve(call)

    service, method = ADS_DELTA.strip("/").split("/")
    handlers = {method: grpc.stream_stream_rpc_method_handler(serve)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    address = f"unix:{directory}/xds"
    server.add_insecure_port(address)
    await server.start()

    async def apply(policy: ReceivedPolicy) -> None:
        applied.append(policy.document())

    task = asyncio.create_task(follow(address, Node(id="callout-test-0"), apply, sleep))
    try:
        yield streams
    finally:
        assert not task.done(), task.result()
        task.cancel()
        await asyncio.wait((task,))
        await server.stop(None)


async def test_a_worker_subscribes_and_acknowledges_by_nonce(tmp_path: Path) -> None:
    applied: list[PolicyDocument] = []
    async with worker(tmp_path, applied) as streams:
        stream = await streams.opened()
        first = await stream.request()
        assert (first.node.id, first.type_url) == ("callout-test-0", POLICY_TYPE_URL)
        assert (dict(first.initial_resource_versions), first.response_nonce) == ({}, "")
        stream.respond("1", "a", resources(FIRST))
        accepted = await stream.request()
        assert (accepted.response_nonce, list(accepted.resource_names_subscribe)) == ("a", [])
        assert not accepted.HasField("error_detail")
        assert applied == [FIRST]


async def test_the_changes_of_a_response_are_applied_together(tmp_path: Path) -> None:
    applied: list[PolicyDocument] = []
    before, after = document({"a": {}, "b": {}}), document({"a": {"stable": "v2"}, "c": {}})
    async with worker(tmp_path, applied) as streams:
        stream = await streams.opened()
        await stream.request()
        stream.respond("1", "a", resources(before))
        await stream.request()
        stream.respond("2", "b", resources(after), ["model/b"])
        await stream.request()
        assert applied == [before, after]


@pytest.mark.parametrize(
    ("changed", "removed"),
    [({}, ["policy"]), ({"model/m": b"\xff"}, []), ({"model/n": resources(FIRST)["model/m"]}, [])],
    ids=["no settings", "bytes", "name"],
)
async def test_a_rejected_response_changes_nothing_and_the_nack_has_the_reason(
    tmp_path: Path, changed: dict[str, bytes], removed: list[str]
) -> None:
    applied: list[PolicyDocument] = []
    async with worker(tmp_path, applied) as streams:
        stream = await streams.opened()
        await stream.request()
        stream.respond("1", "a", resources(FIRST))
        await stream.request()
        stream.respond("2", "b", changed, removed)
        refused = await stream.request()
        assert refused.response_nonce == "b"
        assert refused.error_detail.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert refused.error_detail.message
        stream.respond("3", "c", {"model/m": resources(SECOND)["model/m"]})
        assert not (await stream.request()).HasField("error_detail")
        assert [each.models for each in applied] == [FIRST.models, SECOND.models]


async def test_a_new_stream_begins_with_the_versions_accepted_last(tmp_path: Path) -> None:
    """So the control plane sends only models that the worker does not have."""
    async with worker(tmp_path, []) as streams:
        stream = await streams.opened()
        await stream.request()
        stream.respond("1", "a", resources(FIRST))
        await stream.request()
        stream.respond("2", "b", {"model/m": b"\xff"})
        await stream.request()
        stream.end()
        stream = await streams.opened()
        again = await stream.request()
        assert dict(again.initial_resource_versions) == {"model/m": "model/m 1"}
        assert (again.response_nonce, again.node.id) == ("", "callout-test-0")
        assert not again.HasField("error_detail")


async def test_an_unreadable_response_ends_the_stream_and_not_the_worker(tmp_path: Path) -> None:
    applied: list[PolicyDocument] = []
    async with worker(tmp_path, applied) as streams:
        stream = await streams.opened()
        stream.send(b"\xff\xff")
        stream = await streams.opened()
        stream.respond("1", "a", resources(FIRST))
        await stream.request()
        assert (await stream.request()).response_nonce == "a"
        assert applied == [FIRST]


async def test_reconnections_back_off(tmp_path: Path) -> None:
    """Pauses double up to a maximum, and start again after a policy."""
    pauses: list[float] = []

    async def sleep(pause: float) -> None:
        pauses.append(pause)

    async with worker(tmp_path, [], sleep) as streams:
        for _ in range(6):
            (await streams.opened()).end()
        stream = await streams.opened()
        assert pauses == [0.1, 0.2, 0.4, *[MAX_BACKOFF] * 3]
        await stream.request()
        stream.respond("1", "a", resources(FIRST))
        await stream.request()
        stream.end()
        await streams.opened()
        assert pauses[6:] == [0.1]
