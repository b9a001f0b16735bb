"""A stream: analyses videos one after the other, and gives the events to its outputs."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Final

from protos.video_pb2 import AnalysisResult
from sluice.contract.video import VideoReason
from video.inference.caller_headers import Metadata, call_metadata
from video.inference.failure import Failure
from video.inference.pending import PendingFrame
from video.inference.sender import FrameSender, Target
from video.inference.slots import SlotSettings
from video.output import Output
from video.source import FrameSource
from video.streams.counters import FrameCounters
from video.streams.events import SessionIdentity, frame_event, summary_event
from video.streams.outputs import Outputs
from video.streams.parts import StreamParts
from video.streams.recent import RecentLatencies, RecentRate
from video.streams.session import Session
from video.streams.settings import StreamSettings
from video.streams.status import StreamState, StreamStatus

_SESSION_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class EndedSession:
    """What is left of a video. `event`: its last event. `uptime`: seconds in which it had frames.

    `source_ended` is set when the thread of the source ends, which a source that hangs delays.
    """

    event: AnalysisResult
    uptime: float
    source_ended: asyncio.Event


class Stream:
    """An upload, or a camera over all its connections. Use it on the event loop.

    `upload`: whether it is an upload of a client. `counters`: those of the stream before a change
    of its settings. Raises ValueError for a model without video.
    """

    def __init__(
        self,
        settings: StreamSettings,
        parts: StreamParts,
        *,
        upload: bool,
        counters: FrameCounters | None = None,
    ) -> None:
        declared = settings.model.video_input
        if declared is None or settings.model.video is None:
            raise ValueError(f"model {settings.model_name} has no input for video")
        self.settings = settings
        self.counters = FrameCounters() if counters is None else counters
        self._video, self._declared = settings.model.video, declared
        self._parts = parts
        self._upload = upload
        self._outputs = Outputs(settings.name, self._outputs_changed)
        self._session: Session | None = None
        self._sender: FrameSender | None = None
        self._identity = self._new_identity()
        self._results = RecentRate(time.monotonic())
        self._latencies = RecentLatencies()
        self._state, self._since = StreamState.CONNECTING, time.monotonic()
        self._error = ""

    def add_output(self, output: Output) -> None:
        """Give the output all events from now on."""
        self._outputs.add(output)

    def remove_output(self, output: Output) -> None:
        """Give the output no more events."""
        self._outputs.remove(output)

    async def run(self, source: FrameSource, caller: Metadata) -> EndedSession:
        """Analyse a video to its end. Outputs get its last event, unless a camera had no frames.

        `caller`: the headers of the requests to the gateway (see `forwarded_headers`). If the task
        is cancelled, requests in flight are, too. Call it again only after the video has ended.
        """
        settings, parts = self.settings, self._parts
        late, early = parts.new_converter(settings), parts.new_converter(settings)
        sender = FrameSender(self._target(caller), parts.gateway, late, parts.executor)
        session = Session(
            settings.name,
            source,
            early,
            sender,
            self._slot_settings(),
            self._deliver,
            parts.threads,
        )
        self._identity = self._new_identity()
        self._session, self._sender = session, sender
        self.counters.begin(session)
        self._outputs.check()
        self._outputs_changed()
        try:
            await session.run()
        finally:
            self.counters.finish()
            self._session = self._sender = None
            error = "" if session.end is None else f"{session.end.reason}: {session.end.detail}"
            self.enter(StreamState.STOPPED, error)
        event = summary_event(self._identity, session.end, self.counters.snapshot())
        if self._upload or session.first_frame is not None:
            # A camera that does not answer is no event for each attempt.
            self._outputs.put(event, None)
        uptime = 0.0 if session.first_frame is None else time.monotonic() - session.first_frame
        return EndedSession(event, uptime, session.source_ended)

    def end(self, reason: VideoReason, detail: str, *, grace: float) -> None:
        """End the video. Frames that wait are dropped; `grace`: seconds for requests in flight."""
        if self._session is not None:
            self._session.close(reason, detail, grace=grace)

    def close(self) -> None:
        """Forget the outputs, after the last video."""
        self._outputs.close()

    def holds_up_source(self) -> bool:
        """Whether the source waits for the model or for an output."""
        return self._session is not None and self._session.slots.hand_over.holds_up_source()

    def enter(self, state: StreamState, error: str = "") -> None:
        """Enter a state between two videos. `error`: why the last video has ended."""
        self._state, self._since = state, time.monotonic()
        if error:
            self._error = error

    def status(self) -> StreamStatus:
        """The status now."""
        now, session = time.monotonic(), self._session
        state, since = self._state, self._since
        if session is not None:
            running = session.first_frame is not None
            state = StreamState.RUNNING if running else StreamState.CONNECTING
            since = session.first_frame or session.started
        p50, p99 = self._latencies.quantiles(now, 0.5, 0.99)
        return StreamStatus(
            name=self.settings.name,
            model=self.settings.model_name,
            state=state,
            # The first frame may have come after `now`.
            seconds=max(0.0, now - since),
            counts=self.counters.snapshot(),
            frames_per_second=0.0 if session is None else session.rate.per_second(now),
            results_per_second=self._results.per_second(now),
            p50=p50 * 1000,
            p99=p99 * 1000,
            error=self._error,
            upload=self._upload,
        )

    def _deliver(self, frame: PendingFrame) -> None:
        now, outcome = time.monotonic(), frame.outcome
        if isinstance(outcome, Failure):
            self.counters.errors[outcome.reason] += 1
            self._error = f"{outcome.reason}: {outcome.detail}"
            if outcome.ends_stream:
                self.end(outcome.reason, outcome.detail, grace=self._video.deadline)
        else:
            self.counters.results += 1
            self._error = ""
            self._results.add(now)
            self._latencies.add(now, now - frame.arrived)
            self._parts.observe(self.settings, now - frame.arrived)
        self._outputs.put(frame_event(self._identity, frame, now), frame.frame)

    def _outputs_changed(self) -> None:
        if self._session is not None and self._sender is not None:
            self._sender.keeps_frames = self._outputs.wants_frames
            self._session.slots.hold_up(held_up=self._outputs.held_up)

    def _target(self, caller: Metadata) -> Target:
        settings = self.settings
        return Target(
            name=settings.model_name,
            model=settings.model,
            declared=self._declared,
            metadata=call_metadata(caller, settings.model_name, settings.version),
            deadline_from_arrival=settings.overload == "drop",
        )

    def _slot_settings(self) -> SlotSettings:
        return SlotSettings(
            concurrency=self._video.concurrency,
            max_batch=self._video.max_batch,
            batch_delay=self._video.batch_delay,
            ordered=self.settings.ordered,
            overload=self.settings.overload,
        )

    def _new_identity(self) -> SessionIdentity:
        session = secrets.token_hex(_SESSION_BYTES)
        return SessionIdentity(self.settings.name, self.settings.model_name, session)
