"""The live view of `sluice video`: what a person sees of a stream."""

from collections import deque

from protos.video_pb2 import AnalysisResult, Output, Timings
from sluice.cli.output import plain
from sluice.cli.video.view import LatestEvents, output_text, sparkline, view
from sluice.contract.video import DropReason, VideoReason
from video.streams.counts import StreamCounts
from video.streams.status import StreamState, StreamStatus


def status(counts: StreamCounts, state: StreamState = StreamState.RUNNING) -> StreamStatus:
    return StreamStatus(
        name="s", model="digits", state=state, seconds=12.4, counts=counts,
        frames_per_second=29.97, results_per_second=4.99, p50=7.25, p99=18.6,
        error="model_failed: out of memory", upload=False,
    )  # fmt: skip


def result(frame: int, *outputs: Output, total: float = 10.0) -> AnalysisResult:
    event = AnalysisResult(frame=frame, time=frame / 30, timings=Timings(total=total))
    event.inference.model_version = "v1"
    event.inference.outputs.extend(outputs)
    return event


def shown(*events: AnalysisResult, counts: StreamCounts | None = None) -> str:
    latest = LatestEvents()
    for event in events:
        latest.put(event, None)
    return "\n".join(plain(view("rtsp://camera/1", status(counts or StreamCounts()), latest)))


def test_rates_and_latencies_are_shown() -> None:
    text = shown()
    assert "rtsp://camera/1 -> digits" in text
    assert "running, 12 s" in text
    assert "30.0 sampled, 5.0 results" in text
    assert "p50 7.2 ms, p99 18.6 ms" in text
    assert "model_failed: out of memory" in text


def test_the_counts_add_up() -> None:
    counts = StreamCounts(
        skipped=100, frames=50, results=40, undecodable=2, reconnects=1,
        drops={DropReason.OVERLOAD: 5, DropReason.SINK: 1}, errors={VideoReason.MODEL_FAILED: 3},
    )  # fmt: skip
    text = shown(counts=counts)
    assert "152 = 50 sampled + 100 skipped + 2 undecodable" in text
    assert "40, 1 in flight" in text
    assert "6: overload 5, sink 1" in text
    assert "3: model_failed 3" in text


def test_the_last_result_is_shown_with_its_labels_or_values() -> None:
    label = Output(name="label", datatype="INT64", integers=[7])
    scores = Output(name="probabilities", datatype="FP32", shape=[10], numbers=[0.1] * 10)
    failed = AnalysisResult(frame=99)
    failed.failure.reason = "deadline"
    text = shown(result(3, label), result(60, label, scores), failed)
    assert "60, at 2.00 s, by version v1" in text
    assert "label     7" in text
    assert "probabili FP32 [10]" in text


def test_a_text_of_the_model_cannot_control_the_terminal() -> None:
    text = shown(result(1, Output(name="t", datatype="BYTES", texts=[b"\x1b[2Jx"])))
    assert "\x1b" not in text
    assert "\\x1b[2Jx" in text


def test_labels_have_their_scores() -> None:
    output = Output(name="scores", datatype="FP32", numbers=[0.9, 0.1])
    output.labels.add(label="cat", score=0.9)
    output.labels.add(label="dog", score=0.1)
    assert output_text(output) == "cat (0.90), dog (0.10)"


def test_the_sparkline_has_the_highest_bar_for_the_highest_value() -> None:
    assert sparkline(deque([0.0, 5.0, 10.0])) == "▁▅█"
    assert sparkline(deque([0.0])) == "▁"
