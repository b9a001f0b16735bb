"""Each report of a worker counts once, also if the control plane comes and goes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from extproc.breaker import Breaker
from extproc.counter_table import CounterTable, create
from extproc.process import traffic_reports
from extproc.process.traffic_reports import BreakerStates, TrafficReporter
from extproc.telemetry.traffic import TrafficCounts
from protos.base_pb2 import Node
from protos.observations_pb2 import BreakerState, Report
from sluice.config.breaker import BreakerConfig
from tests.extproc.telemetry.test_requests import entry
from xds.envoys import reporters
from xds.envoys.observations import Observations
from xds.envoys.reporters import Reporter
from xds.envoys.reports import ReportService
from xds.envoys.worker_reports import WorkerReportReader
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_reports, "REPORT_INTERVAL", 0.01)


class Reader(WorkerReportReader):
    """Sets an event after each report. The first confirmations are not valid."""

    def __init__(self, unconfirmed: int) -> None:
        super().__init__()
        self.unconfirmed = unconfirmed
        self.received = asyncio.Event()
        self.reports: list[Report] = []

    def read(self, reporter: Reporter, message: bytes, now: float) -> bytes | None:
        response = super().read(reporter, message, now)
        self.reports.append(Report.FromString(message))
        self.received.set()
        self.unconfirmed -= 1
        return b"\xff" if self.unconfirmed >= 0 else response


class Plane:
    """What the control plane has received, over all its starts."""

    def __init__(self, directory: Path, *, unconfirmed: int = 0) -> None:
        self.address = f"unix:{directory}/xds"
        self.observations = Observations()
        self.observations.configure({"m/v1"})
        self._reader = Reader(unconfirmed)
        self.reports = self._reader.reports

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        service = ReportService(self.observations, self._reader, clock=lambda: 1000.0)
        server = XdsServer(Nodes(time.time), self.address, [service])
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    @property
    def requests(self) -> int:
        total = self.observations.totals["worker"].get("m/v1")
        return 0 if total is None else total.requests

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true. It is checked after each report."""
        async with asyncio.timeout(60):
            while not condition():
                self._reader.received.clear()
                await self._reader.received.wait()


@dataclass
class Breakers:
    """Reports these breakers."""

    listed: Sequence[BreakerState]
    unprotected: int = 0

    def states(self) -> Sequence[BreakerState]:
        return self.listed


def worker(counts: TrafficCounts, *breakers: BreakerState, unprotected: int = 0) -> TrafficReporter:
    return TrafficReporter(
        Node(id="callout-0"), counts, TrafficCounts(), Breakers(breakers, unprotected)
    )


def test_the_breakers_of_versions_with_requests_in_their_window_are_reported(
    tmp_path: Path,
) -> None:
    create(tmp_path / "counters", 1, 2000)
    table = CounterTable(tmp_path / "counters", 0)
    config = BreakerConfig(min_volume=10)
    breaker = Breaker(table, dict.fromkeys(("m/open", "m/closed", "m/idle"), config))
    now = 1000.0
    reported = BreakerStates(breaker, lambda: now)

    def states() -> dict[str, tuple[int, float | None, int]]:
        found = reported.states()
        return {each.cluster: (each.state, each.error_rate, each.requests) for each in found}

    breaker.record(now, "m/open", ok=False, count=20)
    breaker.record(now, "m/closed", ok=True, count=40)
    breaker.update(now)
    opened, closed = (BreakerState.OPEN, 1.0, 20), (BreakerState.CLOSED, 0.0, 40)
    assert states() == {"m/open": opened, "m/closed": closed}
    now += 5
    assert states() == {"m/open": opened, "m/closed": closed}
    now += 10
    assert states().keys() == {"m/open"}
    table.close()


def test_counts_and_breakers_arrive(tmp_path: Path) -> None:
    async def test() -> None:
        plane, counts = Plane(tmp_path), TrafficCounts()
        opened = BreakerState(cluster="m/v1", state=BreakerState.OPEN, error_rate=0.5, requests=40)
        counts.record([entry(), entry(status=500)])
        async with plane.running():
            task = asyncio.create_task(worker(counts, opened, unprotected=3).run(plane.address))
            await plane.until(lambda: plane.requests == 2)
            window = plane.observations.window("m", "v1", 60, 1000.0)
            assert (window.state, window.nodes) == ("current", ("callout-0",))
            view = plane.observations.breaker("m", "v1", 1000.0)
            assert view is not None
            assert view.state is reporters.BreakerState.OPEN
            assert plane.observations.unprotected(1000.0) == 3
            task.cancel()

    asyncio.run(test())


def test_the_part_of_staged_envoys_arrives_with_the_whole(tmp_path: Path) -> None:
    async def test() -> None:
        plane, counts, staged = Plane(tmp_path), TrafficCounts(), TrafficCounts()
        counts.record([entry(), entry(), entry(status=500)])
        staged.record([entry(status=500)])
        async with plane.running():
            reporter = TrafficReporter(Node(id="callout-0"), counts, staged, Breakers(()))
            task = asyncio.create_task(reporter.run(plane.address))
            await plane.until(lambda: plane.requests == 3)
            task.cancel()
        (first, *_) = plane.reports
        (found,) = first.staged
        assert (found.cluster, found.requests, found.errors) == ("m/v1", 1, 1)
        assert staged.take() == []

    asyncio.run(test())


def test_counts_wait_for_a_control_plane_and_arrive_once(tmp_path: Path) -> None:
    async def test() -> None:
        plane, counts = Plane(tmp_path), TrafficCounts()
        task = asyncio.create_task(worker(counts).run(plane.address))
        counts.record([entry()] * 5)
        async with plane.running():
            await plane.until(lambda: plane.requests == 5)
        counts.record([entry()] * 7)
        async with plane.running():
            await plane.until(lambda: plane.requests == 12)
            counts.record([entry()])
            await plane.until(lambda: plane.requests == 13)
        task.cancel()

    asyncio.run(test())


def test_a_report_without_a_confirmation_counts_once(tmp_path: Path) -> None:
    async def test() -> None:
        plane, counts = Plane(tmp_path, unconfirmed=1), TrafficCounts()
        counts.record([entry()] * 5)
        async with plane.running():
            task = asyncio.create_task(worker(counts).run(plane.address))
            await plane.until(lambda: plane.requests >= 5)
            counts.record([entry()])
            await plane.until(lambda: plane.requests >= 6)
            assert plane.requests == 6
            task.cancel()

    asyncio.run(test())
