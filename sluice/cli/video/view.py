"""The live view of a stream: rates, latencies, counts and the last result."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TypeVar

from protos.video_pb2 import AnalysisResult, Label, Output
from sluice.cli.output import LABEL, Block, Field, Line, Style
from sluice.contract.video import VideoReason
from video.streams.counts import StreamCounts
from video.streams.status import StreamState, StreamStatus

Reason = TypeVar("Reason", bound=str)

HISTORY = 48
"""Latest results whose latencies are drawn."""

MAX_OUTPUTS = 4
"""Outputs of a result that are shown."""

MAX_VALUES = 6
"""Values of an output that are shown; of more, only their number is."""

MAX_REASONS = 4

_BARS = "▁▂▃▄▅▆▇█"
_STYLES: dict[StreamState, Style] = {
    StreamState.RUNNING: "good", StreamState.CONNECTING: "warn", StreamState.WAITING: "bad",
    StreamState.STOPPED: "",
}  # fmt: skip


class LatestEvents:
    """What the view shows of the events: the last result, and the latencies of the latest ones."""

    wants_frames = False

    def __init__(self) -> None:
        self.result: AnalysisResult | None = None
        self.latencies: deque[float] = deque(maxlen=HISTORY)

    def ready(self) -> bool:
        """Always: only the latest events are kept."""
        return True

    async def wait_ready(self) -> None:
        """Returns at once."""

    def put(self, event: AnalysisResult, _: object) -> None:
        """Keep the event if it is a result."""
        if event.HasField("inference"):
            self.result = event
            self.latencies.append(event.timings.total)


def view(source: str, status: StreamStatus, latest: LatestEvents) -> Iterator[Block]:
    """The view of a stream that runs."""
    yield Field("stream", f"{source} -> {status.model}")
    yield Field("state", f"{status.state}, {status.seconds:.0f} s", _STYLES[status.state])
    # The command itself stops a stream, which is no error.
    if status.error and not status.error.startswith(f"{VideoReason.STOPPED}:"):
        yield Field("error", status.error, "bad")
    yield Field(
        "fps", f"{status.frames_per_second:.1f} sampled, {status.results_per_second:.1f} results"
    )
    yield Field("latency", f"p50 {status.p50:.1f} ms, p99 {status.p99:.1f} ms")
    if latest.latencies:
        yield Field("", sparkline(latest.latencies), "dim")
    yield from count_blocks(status.counts)
    if latest.result is not None:
        yield Line()
        yield from _result(latest.result)


def count_blocks(counts: StreamCounts) -> Iterator[Block]:
    """The counts of a stream, which add up."""
    parts = f"{counts.frames} sampled + {counts.skipped} skipped"
    if counts.undecodable:
        parts += f" + {counts.undecodable} undecodable"
    yield Field("received", f"{counts.received} = {parts}")
    in_flight = f", {counts.in_flight} in flight" if counts.in_flight else ""
    yield Field("results", f"{counts.results}{in_flight}")
    yield Field("drops", _by_reason(counts.drops), "warn" if counts.drops else "")
    yield Field("errors", _by_reason(counts.errors), "bad" if counts.errors else "")
    if counts.reconnects:
        yield Field("reconnects", str(counts.reconnects), "warn")


def sparkline(values: "deque[float]") -> str:
    """The values as bars. The highest bar is the highest value."""
    highest = max(values) or 1.0
    return "".join(_BARS[round(value / highest * (len(_BARS) - 1))] for value in values)


def _by_reason(counts: Mapping[Reason, int]) -> str:
    if not counts:
        return "0"
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    more = "" if len(ordered) <= MAX_REASONS else ", ..."
    reasons = ", ".join(f"{reason} {count}" for reason, count in ordered[:MAX_REASONS])
    return f"{sum(counts.values())}: {reasons}{more}"


def _result(event: AnalysisResult) -> Iterator[Block]:
    version = event.inference.model_version
    by = f", by version {version}" if version else ""
    yield Field("frame", f"{event.frame}, at {event.time:.2f} s{by}")
    for output in event.inference.outputs[:MAX_OUTPUTS]:
        yield Field(output.name[: LABEL - 1], output_text(output), "good")
    more = len(event.inference.outputs) - MAX_OUTPUTS
    if more > 0:
        yield Field("", f"and {more} more outputs", "dim")


def output_text(output: Output) -> str:
    """An output in one line: its labels, else its values if they are few."""
    if output.labels:
        return ", ".join(map(_label, output.labels[:MAX_VALUES]))
    values: list[str] = [
        *(f"{number:.4g}" for number in output.numbers[: MAX_VALUES + 1]),
        *(
            str(number)
            for number in (*output.integers, *output.unsigned_integers)[: MAX_VALUES + 1]
        ),
        *(text.decode(errors="replace") for text in output.texts[: MAX_VALUES + 1]),
    ]
    if len(values) <= MAX_VALUES:
        return ", ".join(values)
    shape = " x ".join(map(str, output.shape))
    return f"{output.datatype} [{shape}]"


def _label(found: Label) -> str:
    name = found.label or str(found.index)
    return f"{name} ({found.score:.2f})" if found.HasField("score") else name
