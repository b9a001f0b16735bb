"""The values of the metrics, from the snapshots of the workers (Prometheus)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from protos.video_pb2 import Counts, StreamTotals, WorkerSnapshot
from sluice.version import VERSION
from video.process import catalog
from video.process.catalog import Family
from video.process.past_uploads import PastUploads
from video.process.worker_record import WorkerRecord
from video.service.latency import BUCKETS
from video.streams.status import StreamState

_Value = tuple[tuple[str, ...], float]
"""The labels and the value of a series."""


class VideoCollector(Collector):
    """Reads the snapshots at each scrape."""

    def __init__(self, uploads: PastUploads, workers: Sequence[WorkerRecord]) -> None:
        self._uploads = uploads
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        current, uploads = self._uploads.read()
        totals = [each for one in current for each in one.totals if each.stream]
        yield _metric(catalog.BUILD_INFO, [((VERSION,), 1)])
        yield from _workers(self._workers, current)
        yield from _calls(current, uploads)
        yield from _states(current)
        yield from _frames([*totals, *uploads.totals])
        yield from _sinks(current)


def _workers(
    workers: Sequence[WorkerRecord], current: Sequence[WorkerSnapshot]
) -> Iterator[Metric]:
    labels = [(str(worker.index),) for worker in workers]
    pairs = list(zip(labels, workers, strict=True))
    yield _metric(catalog.WORKER_UP, [(at, worker.up) for at, worker in pairs])
    yield _metric(catalog.WORKER_STARTS, [(at, worker.starts) for at, worker in pairs])
    yield _metric(catalog.WORKER_HANGS, [(at, worker.hangs) for at, worker in pairs])
    silences = [(at, worker.silence) for at, worker in pairs]
    yield _metric(catalog.WORKER_SILENCE, [(at, s) for at, s in silences if s is not None])
    read = list(zip(labels, current, strict=True))
    yield _metric(catalog.WORKER_CONNECTED, [(at, each.connected) for at, each in read])
    yield _metric(catalog.WORKER_CPU, [(at, each.cpu_seconds) for at, each in read])
    yield _metric(catalog.WORKER_RESIDENT, [(at, each.resident_bytes) for at, each in read])


def _calls(current: Iterable[WorkerSnapshot], uploads: WorkerSnapshot) -> Iterator[Metric]:
    opened: Counter[str] = Counter()
    for each in current:
        opened.update({one.model: one.open for one in each.uploads})
    yield _metric(catalog.OPEN_UPLOADS, [((model,), n) for model, n in opened.items()])
    yield _metric(catalog.UPLOADS, [((one.model,), one.started) for one in uploads.uploads])
    yield _metric(catalog.WATCHERS, [((), sum(each.watchers for each in current))])
    yield _metric(catalog.REFUSED, [((reason,), n) for reason, n in uploads.refused.items()])
    yield _metric(catalog.CONFIG_REJECTIONS, [((), uploads.rejected_configs)])


def _states(current: Iterable[WorkerSnapshot]) -> Iterator[Metric]:
    streams = [each for one in current for each in one.streams if not each.upload]
    states = Counter({str(state): 0 for state in StreamState})
    states.update(each.state for each in streams)
    yield _metric(catalog.STREAMS, [((state,), n) for state, n in states.items()])
    ups = [((each.name, each.model), each.state == StreamState.RUNNING) for each in streams]
    yield _metric(catalog.STREAM_UP, ups)


def _frames(totals: Iterable[StreamTotals]) -> Iterator[Metric]:
    found = [((each.stream, each.model), each) for each in totals]
    counts = [(at, each.counts) for at, each in found]
    yield _metric(catalog.RECEIVED_FRAMES, [(at, each.received) for at, each in counts])
    outcomes = [
        ((*at, outcome, reason), count)
        for at, each in counts
        for outcome, reason, count in _outcomes(each)
    ]
    yield _metric(catalog.FRAMES, outcomes)
    yield _metric(catalog.IN_FLIGHT, [(at, _in_flight(each)) for at, each in counts])
    yield _metric(catalog.BYTES, [(at, each.bytes) for at, each in counts])
    yield _metric(catalog.RECONNECTS, [(at, each.reconnects) for at, each in counts if at[0]])
    yield _latencies(found)


def _outcomes(counts: Counts) -> Iterator[tuple[str, str, int]]:
    yield "skipped", "", counts.skipped
    yield "undecodable", "", counts.undecodable
    yield "result", "", counts.results
    for reason, count in counts.drops.items():
        yield "drop", reason, count
    for reason, count in counts.errors.items():
        yield "error", reason, count


def _in_flight(counts: Counts) -> int:
    ended = counts.results + sum(counts.drops.values()) + sum(counts.errors.values())
    return counts.frames - ended


def _latencies(totals: Iterable[tuple[tuple[str, str], StreamTotals]]) -> Metric:
    shown = catalog.FRAME_SECONDS
    family = HistogramMetricFamily(shown.name, shown.help, labels=shown.labels)
    bounds = [*map(str, BUCKETS), "+Inf"]
    for labels, each in totals:
        counts = accumulate(each.latencies or [0] * len(bounds))
        family.add_metric(labels, list(zip(bounds, map(float, counts), strict=True)), each.seconds)
    return family


def _sinks(current: Iterable[WorkerSnapshot]) -> Iterator[Metric]:
    sinks = [((s.name, k.name), k) for one in current for s in one.streams for k in s.sinks]
    yield _metric(catalog.SINK_EVENTS, [(at, sink.delivered) for at, sink in sinks])
    yield _metric(catalog.SINK_WAITING, [(at, sink.waiting) for at, sink in sinks])
    yield _metric(catalog.SINK_UP, [(at, not sink.error) for at, sink in sinks])


def _metric(shown: Family, values: Iterable[_Value]) -> Metric:
    """A metric with its series."""
    family: CounterMetricFamily | GaugeMetricFamily
    if shown.kind == "counter":
        family = CounterMetricFamily(shown.name, shown.help, labels=shown.labels)
    else:
        family = GaugeMetricFamily(shown.name, shown.help, labels=shown.labels)
    for labels, value in sorted(values):
        family.add_metric(labels, float(value))
    return family
