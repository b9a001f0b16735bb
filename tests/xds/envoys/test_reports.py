"""The services that receive reports, also with clients that send what no Envoy or worker sends."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import grpc
import grpc.aio
import pytest

from protos.load_stats_pb2 import LoadStatsRequest, LoadStatsResponse
from protos.observations_pb2 import BreakerState, ComparisonCounts, Received, Report
from sluice.contract.paths import LOAD_METHOD, LOAD_SERVICE, OBSERVATIONS
from sluice.contract.traffic import BINS, latency_bin
from xds.envoys import observations, reporters, reports
from xds.envoys.load_reports import MAX_CLUSTERS, MAX_LOCALITIES, LoadReportReader
from xds.envoys.observations import Observations
from xds.envoys.reporters import SILENT_AFTER, BreakerView, Comparison
from xds.envoys.reports import BURST, MAX_COUNT, MAX_REPORT, ReportService
from xds.envoys.worker_reports import WorkerReportReader
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer

LOAD = f"/{LOAD_SERVICE}/{LOAD_METHOD}"
Call = grpc.aio.StreamStreamCall[bytes, bytes]


class Plane:
    """A server with both services, and an open channel to it."""

    def __init__(self, directory: Path) -> None:
        self.observations = Observations()
        self.observations.configure({"m/v1", "m/v2"})
        self.services = [
            ReportService(self.observations, LoadReportReader()),
            ReportService(self.observations, WorkerReportReader()),
        ]
        self._address = f"unix:{directory}/xds"
        self.server = XdsServer(Nodes(time.time), self._address, self.services)

    async def __aenter__(self) -> "Plane":
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop()

    def open(self, method: str) -> Call:
        call: Call = self.channel.stream_stream(method)()
        return call

    async def status_after(self, method: str, messages: Iterable[bytes]) -> grpc.StatusCode:
        """The status with which the server ends a stream that sends these messages."""

        async def sent() -> AsyncIterator[bytes]:
            for message in messages:
                yield message
            await asyncio.Event().wait()

        call = self.channel.stream_stream(method)(sent())
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError:
            pass
        status: grpc.StatusCode = await call.code()
        return status

    def window(self, seconds: float = 600, version: str = "v1") -> observations.Window:
        return self.observations.window("m", version, seconds, time.monotonic() + 5)


def run(directory: Path, test: Callable[[Plane], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Plane(directory) as plane:
            await test(plane)

    asyncio.run(main())


def load(
    *clusters: tuple[str, int, int], node: str = "envoy-1", seconds: int = 2, active: int = 0
) -> LoadStatsRequest:
    request = LoadStatsRequest()
    request.node.id = node
    for name, succeeded, failed in clusters:
        stats = request.cluster_stats.add(cluster_name=name)
        stats.load_report_interval.seconds = seconds
        stats.upstream_locality_stats.add(
            total_successful_requests=succeeded,
            total_error_requests=failed,
            total_requests_in_progress=active,
        )
    return request


def report(
    number: int, requests: int = 10, errors: int = 1, latencies: Sequence[int] = (), **more: object
) -> Report:
    created = Report(process=7, number=number, seconds=2, **more)
    created.node.id = "callout-0"
    bins = [latency_bin(each) for each in latencies]
    created.versions.add(
        cluster="m/v1", requests=requests, errors=errors, bins=bins, counts=[1] * len(bins)
    )
    return created


async def received(call: Call, *reports: Report) -> None:
    """Sends reports, and waits until the server has confirmed each."""
    for each in reports:
        await call.write(each.SerializeToString())
        assert Received.FromString(await call.read()).number == each.number


def test_envoy_is_told_to_report_all_clusters_and_its_reports_are_counted(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        call = plane.open(LOAD)
        await call.write(load().SerializeToString())
        settings = LoadStatsResponse.FromString(await call.read())
        assert settings.send_all_clusters
        assert settings.load_reporting_interval.seconds == 2
        await call.write(
            load(("m/v1", 90, 10), ("sluice-callout", 5, 0), active=3).SerializeToString()
        )
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        window = plane.window()
        assert (window.requests, window.errors, window.source) == (100, 10, "envoy")
        assert window.state == "stale", "the only Envoy has left"
        assert plane.observations.unknown == 1

    run(tmp_path, test)


def test_a_load_report_after_a_long_silence_is_in_no_window(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        call = plane.open(LOAD)
        late = load(("m/v1", 90, 10), seconds=int(SILENT_AFTER) + 1)
        await call.write(late.SerializeToString())
        await call.read()
        await call.write(load(("m/v1", 7, 0)).SerializeToString())
        await call.done_writing()
        await call.code()
        assert plane.window().requests == 7

    run(tmp_path, test)


def test_a_worker_reports_requests_latencies_and_breakers(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        call = plane.open(OBSERVATIONS)
        breaker = BreakerState(cluster="m/v1", state=BreakerState.OPEN, error_rate=0.5, requests=40)
        await received(call, report(1, latencies=[1000] * 9 + [500_000], breakers=[breaker]))
        window = plane.window()
        assert (window.requests, window.errors, window.source) == (10, 1, "worker")
        assert window.quantile(0.5) == pytest.approx(0.001, rel=0.13)
        assert window.quantile(0.99) == pytest.approx(0.5, rel=0.13)
        now = time.monotonic()
        assert plane.observations.breaker("m", "v1", now) == BreakerView(
            reporters.BreakerState.OPEN, 0.5, 40
        )
        await received(call, report(2))
        assert not plane.observations.breakers(time.monotonic())

    run(tmp_path, test)


def test_a_worker_reports_how_the_answers_to_copies_compare(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        call = plane.open(OBSERVATIONS)
        for number, difference in ((1, 0.5), (2, 0.25)):
            counts = ComparisonCounts(
                cluster="m/v2", compared=3, agreed=2, failed=1, dropped=5, max_difference=difference
            )
            await received(call, report(number, comparisons=[counts]))
        window = plane.window(version="v2")
        assert window.requests == 0
        assert window.comparison == Comparison(6, 4, 2, 10, 0.5, 0.0)
        assert window.comparison.agreement == 0.5
        assert plane.window().comparison.agreement is None
        busiest = plane.observations.busiest(600, time.monotonic(), 10)
        assert set(busiest) == {("m", "v1"), ("m", "v2")}

    run(tmp_path, test)


@pytest.mark.parametrize(
    "counts",
    [
        ComparisonCounts(agreed=1),
        ComparisonCounts(compared=MAX_COUNT + 1),
        ComparisonCounts(dropped=MAX_COUNT + 1),
        ComparisonCounts(compared=1, max_difference=float("nan")),
        ComparisonCounts(compared=1, max_relative_difference=float("inf")),
        ComparisonCounts(compared=1, max_difference=-1),
    ],
)
def test_copies_that_no_worker_counts_end_the_stream(
    tmp_path: Path, counts: ComparisonCounts
) -> None:
    async def test(plane: Plane) -> None:
        counts.cluster = "m/v2"
        message = report(1, comparisons=[counts]).SerializeToString()
        status = await plane.status_after(OBSERVATIONS, [message])
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert plane.window().requests == 0

    run(tmp_path, test)


def test_a_report_that_a_worker_repeats_counts_once(tmp_path: Path) -> None:
    """Also on a new stream: the worker does not know whether the first has arrived."""

    async def test(plane: Plane) -> None:
        first = plane.open(OBSERVATIONS)
        await received(first, report(1), report(1), report(2))
        first.cancel()
        second = plane.open(OBSERVATIONS)
        await received(second, report(2), report(3))
        assert plane.window().requests == 30
        restarted = report(1)
        restarted.process = 8
        await received(second, restarted)
        assert plane.window().requests == 40

    run(tmp_path, test)


def test_a_worker_reports_what_staged_envoys_have_seen(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        plane.observations.cohorts.begin({"envoy-1"})
        first, second = report(1), report(2)
        second.staged.add(cluster="m/v1", requests=4, errors=1)
        await received(plane.open(OBSERVATIONS), first, second, second)
        [(cluster, staged, others)] = plane.observations.cohorts.since("worker", 0.0)
        assert cluster == "m/v1"
        assert [(each.requests, each.errors) for each in staged] == [(4, 1)]
        assert sum(each.requests for each in others) == 16

    run(tmp_path, test)


def contradicting(**fields: object) -> bytes:
    wrong = report(1)
    version = wrong.versions[0]
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(version, name)[:] = value
        else:
            setattr(version, name, value)
    return wrong.SerializeToString()


def with_staged(**fields: int) -> bytes:
    wrong = report(1)
    wrong.staged.add(cluster="m/v1", **{"requests": 10, **fields})
    return wrong.SerializeToString()


def with_breaker(**fields: object) -> bytes:
    return report(1, breakers=[BreakerState(cluster="m/v1", **fields)]).SerializeToString()


def many_localities(count: int) -> bytes:
    request = load(("m/v1", 1, 0))
    for _ in range(count):
        request.cluster_stats[0].upstream_locality_stats.add()
    return request.SerializeToString()


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (LOAD, b"\xff"),
        (LOAD, LoadStatsRequest().SerializeToString()),
        (LOAD, load(("m/v1", MAX_COUNT + 1, 0)).SerializeToString()),
        (LOAD, load(("m/v1", 0, 1 << 63)).SerializeToString()),
        (LOAD, load(("m/v1", 1, 1), active=1 << 63).SerializeToString()),
        (OBSERVATIONS, b"\xff"),
        (OBSERVATIONS, Report(number=1).SerializeToString()),
        (OBSERVATIONS, contradicting(errors=11)),
        (OBSERVATIONS, contradicting(requests=MAX_COUNT + 1)),
        (OBSERVATIONS, contradicting(bins=[1, 2], counts=[1])),
        (OBSERVATIONS, contradicting(bins=[BINS], counts=[1])),
        (OBSERVATIONS, contradicting(bins=[1], counts=[11])),
        (OBSERVATIONS, with_staged(errors=11)),
        (OBSERVATIONS, with_breaker(state=9)),
        (OBSERVATIONS, with_breaker(error_rate=float("nan"))),
    ],
)
def test_a_report_that_is_not_valid_ends_its_stream_and_counts_nothing(
    tmp_path: Path, method: str, message: bytes
) -> None:
    async def test(plane: Plane) -> None:
        assert await plane.status_after(method, [message]) is INVALID
        assert plane.window().requests == 0
        assert not plane.observations.breakers(time.monotonic())
        assert plane.observations.refused == {"envoy": method == LOAD, "worker": method != LOAD}

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (LOAD, load(node="x" * (MAX_REPORT + 1)).SerializeToString()),
        (LOAD, b"\x12\x00" * (MAX_CLUSTERS + 1)),
        (LOAD, many_localities(MAX_LOCALITIES + 1)),
        (OBSERVATIONS, b"\x22\x00" * (reporters.MAX_REPORTED + 1)),
        (OBSERVATIONS, b"\x2a\x00" * (reporters.MAX_REPORTED + 1)),
        (OBSERVATIONS, b"\x4a\x00" * (reporters.MAX_REPORTED + 1)),
    ],
    ids=["bytes", "clusters", "localities", "versions", "breakers", "staged"],
)
def test_a_report_that_is_too_large_ends_its_stream(
    tmp_path: Path, method: str, message: bytes
) -> None:
    first = load() if method == LOAD else report(1)

    async def test(plane: Plane) -> None:
        messages = [first.SerializeToString(), message]
        status = await plane.status_after(method, messages)
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(tmp_path, test)


def test_clients_that_are_refused_do_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(plane: Plane) -> None:
        for _ in range(20):
            assert await plane.status_after(LOAD, [b"\xff"]) is INVALID

    run(tmp_path, test)
    assert sum(record.name == reports.__name__ for record in caplog.records) == 1


@pytest.mark.parametrize("method", [LOAD, OBSERVATIONS])
def test_a_client_that_sends_endless_reports_is_stopped(tmp_path: Path, method: str) -> None:
    message = load(("m/v1", 1, 0)) if method == LOAD else report(1, requests=1, errors=0)

    async def test(plane: Plane) -> None:
        endless = [message.SerializeToString()] * 10_000
        # gRPC may tell a client that still sends that the stream was reset.
        assert await plane.status_after(method, endless) is not grpc.StatusCode.OK
        source: reporters.SourceName = "envoy" if method == LOAD else "worker"
        assert plane.observations.refused[source] == 1
        assert plane.observations.totals[source]["m/v1"].requests <= BURST + 5

    run(tmp_path, test)


def test_more_reporters_than_the_maximum_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "MAX_REPORTERS", 2)

    async def test(plane: Plane) -> None:
        for number in range(2):
            call = plane.open(LOAD)
            await call.write(load(node=str(number)).SerializeToString())
            await call.read()
        status = await plane.status_after(LOAD, [load(node="3").SerializeToString()])
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(tmp_path, test)


def test_streams_without_a_report_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MAX_STREAMS", 2)

    async def test(plane: Plane) -> None:
        calls = [plane.open(LOAD) for _ in range(2)]
        for call in calls:
            await call.wait_for_connection()
        # The third one may reach the server before the others.
        ended = [asyncio.create_task(each.code()) for each in (*calls, plane.open(LOAD))]
        done, _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        assert [each.result() for each in done] == [grpc.StatusCode.RESOURCE_EXHAUSTED]

    run(tmp_path, test)


def test_states_of_versions_that_the_config_does_not_have_take_no_memory(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        sent = report(1)
        for number in range(1000):
            sent.breakers.add(cluster=f"other/v{number}", state=BreakerState.OPEN)
        sent.breakers.add(cluster="m/v1", state=BreakerState.OPEN)
        await received(plane.open(OBSERVATIONS), sent)
        loads = plane.open(LOAD)
        await loads.write(load(("other/v1", 1, 0), ("m/v2", 1, 0), active=3).SerializeToString())
        await loads.read()
        while len(plane.observations.reporters) < 2:  # noqa: ASYNC110  # no event tells it
            await asyncio.sleep(0.01)
        worker, envoy = plane.observations.reporters
        assert list(worker.breakers) == ["m/v1"]
        while not envoy.in_progress:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert list(envoy.in_progress) == ["m/v2"]

    run(tmp_path, test)


def test_a_stop_ends_each_stream_with_ok(tmp_path: Path) -> None:
    """Envoy logs any other status as a warning."""

    async def test(plane: Plane) -> None:
        call = plane.open(LOAD)
        await call.write(load().SerializeToString())
        await call.read()
        await plane.server.stop()
        assert await call.code() is grpc.StatusCode.OK

    run(tmp_path, test)
