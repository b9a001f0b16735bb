"""With two real Envoys and one worker: the mark of the routes chooses the policy of a request.

The configs differ in the stable version, which the policy knows, and in a response header, which
the routes set. So an answer shows both.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest

from extproc.process import traffic_reports
from protos.observations_pb2 import Report
from sluice.bootstrap import NodeNames, render
from sluice.config import GatewayConfig, policy_document
from sluice.contract.headers import REASON
from tests.extproc.policy.control_plane import ControlPlane
from tests.extproc.process.test_worker import worker
from tests.integration.gateway import another_envoy, free_ports
from xds.envoys.observations import Observations
from xds.envoys.reporters import Reporter
from xds.envoys.reports import ReportService
from xds.envoys.worker_reports import WorkerReportReader
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.protocol.snapshot import Snapshot
from xds.resources import build
from xds.rollout.order import steps
from xds.rollout.stage import staged_snapshot

FIRST, STAGED = "first", "second"
MODELS: Final = ("native", "called")
"""The model whose requests Envoy admits alone, and that whose requests the callout admits."""

Answer = tuple[str, str, bool]
"""The model, the version that has answered, and whether the routes have set the header."""

BEFORE: Final = {(model, "v1", False) for model in MODELS}
AFTER: Final = {(model, "v2", True) for model in MODELS}


class Reader(WorkerReportReader):
    """Adds up the requests in the reports of the worker: all, and those of staged Envoys."""

    def __init__(self, progress: asyncio.Event) -> None:
        super().__init__()
        self.every: Counter[str] = Counter()
        self.staged: Counter[str] = Counter()
        self._progress = progress
        self._latest = 0

    def read(self, reporter: Reporter, message: bytes, now: float) -> bytes | None:
        report = Report.FromString(message)
        # The worker repeats a report if its confirmation is late.
        if report.number > self._latest:
            self._latest = report.number
            for total, counts in ((self.every, report.versions), (self.staged, report.staged)):
                total.update({each.cluster: each.requests for each in counts})
        self._progress.set()
        return super().read(reporter, message, now)


@dataclass
class Fleet:
    """The Envoys, their control plane and what they have answered."""

    directory: Path
    listeners: dict[str, str]
    admins: dict[str, str]
    models: list[str]
    plane: ControlPlane
    reader: Reader
    client: httpx.AsyncClient
    progress: asyncio.Event
    """Set after each answer and each report."""
    answers: dict[str, list[Answer]] = field(default_factory=lambda: {FIRST: [], STAGED: []})

    def config(self, node: str = FIRST, *, after: bool = False) -> GatewayConfig:
        """One of the two configs. `node`: the Envoy whose bootstrap it is for."""
        versions = {
            name: {"endpoints": [{"address": address}]}
            for name, address in zip(("v1", "v2"), self.models, strict=True)
        }
        model = {
            "versions": versions, "stable": "v2" if after else "v1", "access": {"public": True}
        }  # fmt: skip
        return GatewayConfig.model_validate(
            {
                "listener": {"address": self.listeners[FIRST]},
                "control_plane": {"xds": self.plane.address},
                "callout": {"address": f"unix:{self.directory}/callout", "workers": 1},
                "telemetry": {"access_log": {"output": "none"}},
                "envoy": {"admin": self.admins[node]},
                "requests": {"expose_reason": after},
                "models": {"native": model, "called": {**model, "placement": "callout"}},
                "node_groups": {
                    STAGED: {
                        "match": {"ids": [STAGED]},
                        "listener": {"address": self.listeners[STAGED]},
                    }
                },
            }
        )

    def snapshot(self, *, after: bool = False) -> Snapshot:
        config = self.config(after=after)
        return build(config, policy_document(config, self.directory), self.directory)

    async def roll_out(self, snapshot: Snapshot) -> None:
        """Publish the steps to a snapshot, each when every node has accepted the one before."""
        nodes = self.plane.nodes
        for step in steps(nodes.snapshot, snapshot, nodes.moves(snapshot)):
            nodes.publish(step.snapshot)
            await self.plane.until(lambda: not nodes.out_of_sync(resource_types.ALL))

    async def ask(self, envoy: str, model: str) -> Answer:
        url = f"http://{self.listeners[envoy]}/v2/models/{model}/infer"
        response = (await self.client.post(url, json={})).raise_for_status()
        answer = model, response.text, REASON in response.headers
        self.answers[envoy].append(answer)
        self.progress.set()
        return answer

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[dict[str, list[Answer]]]:
        """Requests to both Envoys in the block. Yields the answers of the block."""
        self.answers = {FIRST: [], STAGED: []}
        stop = asyncio.Event()

        async def send(envoy: str, model: str) -> None:
            while not stop.is_set():
                await self.ask(envoy, model)

        async with asyncio.TaskGroup() as tasks:
            for envoy in self.listeners:
                for model in MODELS:
                    tasks.create_task(send(envoy, model))
            yield self.answers
            stop.set()

    async def until_answered(self, envoy: str, *expected: Answer) -> None:
        """Wait until the latest answers of an Envoy to each model are these."""
        await self.until(lambda: set(self.answers[envoy][-20:]) == set(expected))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.progress.clear()
                await self.progress.wait()

    async def until_served(self) -> None:
        """Wait until both Envoys have an answer for each model."""
        async with asyncio.timeout(60):
            for envoy in self.listeners:
                for model in MODELS:
                    while not await self._is_served(envoy, model):
                        self.progress.clear()
                        await self.progress.wait()

    async def _is_served(self, envoy: str, model: str) -> bool:
        with suppress(httpx.HTTPError):
            await self.ask(envoy, model)
            return True
        return False


@asynccontextmanager
async def model_server(version: str) -> AsyncIterator[str]:
    """A model server that answers with its version. Yields its address."""
    answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(version)}\r\n\r\n{version}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.lower().split(b"\r\n")
            length = next(each for each in lines if each.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(answer)

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(until_closed, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.close()


@contextmanager
def envoy(fleet: Fleet, node: str) -> Iterator[None]:
    bootstrap = fleet.directory / f"{node}.yaml"
    bootstrap.write_text(render(fleet.config(node), NodeNames(node)))
    with another_envoy(bootstrap, "--concurrency", "1"):
        yield


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        xds, *ports = [f"127.0.0.1:{port}" for port in free_ports(5)]
        models = [await stack.enter_async_context(model_server(each)) for each in ("v1", "v2")]
        progress, nodes = asyncio.Event(), Nodes(time.time)
        reader, plane = Reader(progress), ControlPlane(xds, nodes)
        server = XdsServer(nodes, plane.address, [ReportService(Observations(), reader)])
        await server.start()
        stack.push_async_callback(server.stop)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30, verify=False))
        listeners, admins = (
            dict(zip((FIRST, STAGED), each, strict=True)) for each in (ports[:2], ports[2:])
        )
        fleet = Fleet(directory, listeners, admins, models, plane, reader, client, progress)
        nodes.publish(fleet.snapshot())
        await stack.enter_async_context(worker(directory, plane, "callout-0"))
        for node in (FIRST, STAGED):
            stack.enter_context(envoy(fleet, node))
        await plane.until(lambda: sum(node.kind == "envoy" for node in nodes) == 2)
        await plane.until(lambda: not nodes.out_of_sync(resource_types.ALL))
        await fleet.until_served()
        yield fleet


async def requests_belong_together(fleet: Fleet) -> None:
    """Through stages that are undone, and one that is promoted."""
    before, after = fleet.snapshot(), fleet.snapshot(after=True)
    stage = staged_snapshot(before, after, frozenset({STAGED}))
    async with fleet.traffic() as answers:
        for _ in range(2):
            await fleet.until_answered(STAGED, *BEFORE)
            await fleet.roll_out(stage)
            await fleet.until_answered(STAGED, *AFTER)
            await fleet.roll_out(before)
        await fleet.until_answered(STAGED, *BEFORE)
        assert set(answers[STAGED]) == BEFORE | AFTER
        await fleet.roll_out(stage)
        await fleet.until_answered(STAGED, *AFTER)
        await fleet.until_answered(FIRST, *BEFORE)
        assert set(answers[FIRST]) == BEFORE
        del answers[STAGED][:]
        await fleet.roll_out(after)
        await fleet.until_answered(FIRST, *AFTER)
        await fleet.until_answered(STAGED, *AFTER)
        assert set(answers[STAGED]) == AFTER


async def staged_requests_are_counted_apart(fleet: Fleet) -> None:
    """Before any Envoy has sent a request to v2."""
    every, staged = fleet.reader.every, fleet.reader.staged
    before, after = fleet.snapshot(), fleet.snapshot(after=True)
    await fleet.until(lambda: every.total() >= len(MODELS) * len(fleet.listeners))
    assert not staged
    async with fleet.traffic() as answers:
        await fleet.roll_out(staged_snapshot(before, after, frozenset({STAGED})))
        await fleet.until_answered(STAGED, *AFTER)
        await fleet.until_answered(FIRST, *BEFORE)
    counts = Counter(f"{model}/{version}" for model, version, _ in answers[STAGED])
    names = [f"{model}/v2" for model in MODELS]
    await fleet.until(lambda: all(every[each] >= counts[each] for each in names))
    assert {each: staged[each] for each in names} == {each: every[each] for each in names}
    await fleet.until(lambda: every["called/v1"] > counts["called/v1"])
    assert staged["called/v1"] <= counts["called/v1"]
    await fleet.roll_out(before)


def test_a_mark_chooses_the_policy_of_a_request_and_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_reports, "REPORT_INTERVAL", 1.0)

    async def test() -> None:
        async with running(tmp_path) as fleet:
            await staged_requests_are_counted_apart(fleet)
            await requests_belong_together(fleet)

    asyncio.run(test())
