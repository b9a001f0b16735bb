"""The streams of the video service, as its workers report them, and what one report says.

A worker reports the present state of each stream, so a report replaces the one before. Nothing is
kept of a worker that has left.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

from protos.base_pb2 import Node
from protos.video_pb2 import Counts, ReportReceived, SinkStatus, StreamStatus, VideoReport
from sluice.contract.paths import VIDEO_REPORT_METHOD, VIDEO_REPORT_SERVICE
from sluice.contract.video import MAX_REPORTED
from sluice.printable import printable
from xds.envoys.reporters import SourceName
from xds.envoys.reports import InvalidReportError
from xds.protocol.reflection import Method
from xds.protocol.shared_names import OverLimitError

MAX_WORKERS: Final = 256
"""Workers that report: 32 of each of eight services."""

MAX_REASONS: Final = 64
MAX_SINKS: Final = 16
MAX_NAME, MAX_ERROR = 100, 300
"""Characters of names and of errors."""

SILENT_AFTER: Final = 10.0
"""Seconds without a report after which the streams of a worker are not shown. Workers report each
second."""

STATES: Final = frozenset(("connecting", "running", "waiting", "stopped"))
"""Those of `StreamState` in the video service."""


@dataclass(frozen=True, slots=True)
class SinkView:
    """Where the events of a stream go: how many it has, and how many wait for it."""

    name: str
    delivered: int
    waiting: int
    error: str


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """What was counted since the start of the stream. `drops` and `errors` are by reason."""

    received: int
    skipped: int
    undecodable: int
    frames: int
    results: int
    drops: dict[str, int]
    errors: dict[str, int]
    bytes: int
    reconnects: int


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream: of a camera, or the `upload` of a client. `worker` is the node that has it.

    `seconds`: since it is in this state. Rates are per second, and latencies in milliseconds from
    the arrival of a frame to its event. `error`: why it does not run, or why its last frame failed.
    """

    name: str
    model: str
    worker: str
    upload: bool
    state: str
    seconds: float
    error: str
    frames_per_second: float
    results_per_second: float
    p50: float
    p99: float
    counts: StreamCounts
    sinks: list[SinkView]


class VideoReporter:
    """One stream of reports of a worker."""

    def __init__(self, streams: "VideoStreams", node: str, now: float) -> None:
        self._streams = streams
        self.node = node
        self.reported_at = now
        self.views: tuple[StreamView, ...] = ()

    def report(self, now: float, views: tuple[StreamView, ...]) -> None:
        """Replace what the worker has reported before."""
        self.reported_at, self.views = now, views

    def leave(self, _: float) -> None:
        """The worker has left, or connects again."""
        self._streams.forget(self)


class VideoStreams:
    """The streams of all workers."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter({"video": 0})
        self._reporters: set[VideoReporter] = set()

    def join(self, _: SourceName, node: str, now: float) -> VideoReporter:
        """A new stream of reports. Raises OverLimitError if there are too many."""
        if len(self._reporters) >= MAX_WORKERS:
            raise OverLimitError(f"more than {MAX_WORKERS} workers")
        reporter = VideoReporter(self, node, now)
        self._reporters.add(reporter)
        return reporter

    def forget(self, reporter: VideoReporter) -> None:
        """Forget what a worker has reported."""
        self._reporters.discard(reporter)

    def views(self, now: float) -> list[StreamView]:
        """The streams of the workers that have reported lately, by name."""
        lately = (each for each in self._reporters if now - each.reported_at <= SILENT_AFTER)
        found = (view for each in lately for view in each.views)
        return sorted(found, key=lambda view: (view.upload, view.name, view.worker))


class VideoReportReader:
    """Reads the reports of workers of the video service (VideoReport in video.proto)."""

    source: SourceName = "video"
    service = VIDEO_REPORT_SERVICE
    method = VIDEO_REPORT_METHOD
    messages = Method(VideoReport, ReportReceived)
    greeting: bytes | None = None

    def node(self, message: bytes) -> Node:
        """The worker that reports."""
        report = VideoReport.FromString(message)
        if not report.HasField("node"):
            raise InvalidReportError("the first report of a worker has no node")
        return report.node

    def read(self, reporter: VideoReporter, message: bytes, now: float) -> bytes | None:
        """Keep a report, and confirm it."""
        report = VideoReport.FromString(message)
        if len(report.streams) > MAX_REPORTED:
            raise OverLimitError(f"more than {MAX_REPORTED} streams in one report")
        reporter.report(now, tuple(_view(each, reporter.node) for each in report.streams))
        return ReportReceived(number=report.number).SerializeToString()


def _view(status: StreamStatus, worker: str) -> StreamView:
    if status.state not in STATES:
        raise InvalidReportError("a stream has an unknown state")
    figures = (
        status.seconds, status.frames_per_second, status.results_per_second, status.p50, status.p99
    )  # fmt: skip
    if not all(0 <= each < math.inf for each in figures):
        raise InvalidReportError("the figures of a stream are not valid")
    if len(status.sinks) > MAX_SINKS:
        raise OverLimitError(f"more than {MAX_SINKS} sinks of one stream")
    seconds, frames, results, p50, p99 = figures
    return StreamView(
        name=printable(status.name, MAX_NAME),
        model=printable(status.model, MAX_NAME),
        worker=worker,
        upload=status.upload,
        state=status.state,
        seconds=seconds,
        error=printable(status.error, MAX_ERROR),
        frames_per_second=frames,
        results_per_second=results,
        p50=p50,
        p99=p99,
        counts=_counts(status.counts),
        sinks=[_sink(each) for each in status.sinks],
    )


def _counts(counts: Counts) -> StreamCounts:
    if max(len(counts.drops), len(counts.errors)) > MAX_REASONS:
        raise OverLimitError(f"more than {MAX_REASONS} reasons of one stream")
    return StreamCounts(
        received=counts.received,
        skipped=counts.skipped,
        undecodable=counts.undecodable,
        frames=counts.frames,
        results=counts.results,
        drops={printable(reason, MAX_NAME): count for reason, count in counts.drops.items()},
        errors={printable(reason, MAX_NAME): count for reason, count in counts.errors.items()},
        bytes=counts.bytes,
        reconnects=counts.reconnects,
    )


def _sink(sink: SinkStatus) -> SinkView:
    name, error = printable(sink.name, MAX_NAME), printable(sink.error, MAX_ERROR)
    return SinkView(name, sink.delivered, sink.waiting, error)
