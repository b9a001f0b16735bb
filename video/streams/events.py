"""Builds the events of a stream: the outcome of each frame, and the summary of a session."""

from dataclasses import dataclass
from typing import Final

from protos.video_pb2 import AnalysisResult, Summary, Timings
from protos.video_pb2 import Failure as FailureMessage
from video.inference.failure import Failure
from video.inference.pending import PendingFrame
from video.streams.counts import StreamCounts

END_ID: Final = "end"
"""Last part of the id of a summary."""


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """What all events of a session have. `session` is random, so no id is used for two events."""

    stream: str
    model: str
    session: str

    def id_of(self, part: object) -> str:
        """The id of an event: `STREAM/SESSION/FRAME`. It is the same if the event is repeated."""
        return f"{self.stream}/{self.session}/{part}"


def frame_event(identity: SessionIdentity, frame: PendingFrame, now: float) -> AnalysisResult:
    """The event of a frame with an outcome. `now` is on the monotonic clock."""
    outcome = frame.outcome
    assert outcome is not None
    event = AnalysisResult(
        id=identity.id_of(frame.number),
        stream=identity.stream,
        model=identity.model,
        frame=frame.number,
        time=frame.time,
        captured_us=round(frame.captured * 1_000_000),
        width=frame.width,
        height=frame.height,
        timings=_timings(frame, now),
    )
    if isinstance(outcome, Failure):
        event.failure.reason, event.failure.detail = outcome.reason, outcome.detail
    else:
        event.inference.CopyFrom(outcome)
    return event


def _timings(frame: PendingFrame, now: float) -> Timings:
    sent = frame.sent or now
    return Timings(
        decode=_milliseconds(frame.decoded - frame.arrived),
        convert=_milliseconds(frame.convert_seconds),
        wait=_milliseconds(sent - frame.decoded - frame.convert_seconds),
        inference=_milliseconds(frame.answered - frame.sent),
        total=_milliseconds(now - frame.arrived),
    )


def _milliseconds(seconds: float) -> float:
    return max(0.0, seconds * 1000)


def summary_event(
    identity: SessionIdentity, end: FailureMessage | None, counts: StreamCounts
) -> AnalysisResult:
    """The last event of a session. `end`: why it has ended early."""
    summary = Summary(counts=counts.message())
    if end is not None:
        summary.reason, summary.detail = end.reason, end.detail
    return AnalysisResult(
        id=identity.id_of(END_ID), stream=identity.stream, model=identity.model, end=summary
    )
