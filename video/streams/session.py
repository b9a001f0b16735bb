"""One session of a stream: a video from a source, until its end."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from protos.video_pb2 import Failure as EndReason
from sluice.contract.video import VideoReason
from sluice.printable import printable
from video.inference.failure import MAX_DETAIL
from video.inference.pending import Converter, PendingFrame
from video.inference.sender import FrameSender
from video.inference.slots import Slots, SlotSettings
from video.source import FrameSource, SourceError
from video.streams.recent import RecentRate
from video.streams.source_threads import SourceThreads

log = logging.getLogger(__name__)

_SOURCE_TIMEOUT: Final = 5.0
"""Seconds in which a source thread must end after `close`."""

_MAX_THREAD_NAME: Final = 60


class Session:
    """Reads a source on a thread of its own, and sends its frames to the model.

    `deliver` is called for each frame that got a slot, with its outcome.
    """

    def __init__(
        self,
        name: str,
        source: FrameSource,
        converter: Converter,
        sender: FrameSender,
        slots: SlotSettings,
        deliver: Callable[[PendingFrame], None],
        threads: SourceThreads,
    ) -> None:
        self.source = source
        self.started = time.monotonic()
        self.first_frame: float | None = None
        """When the first sampled frame came."""
        self.rate = RecentRate(self.started)
        self.slots = Slots(slots, sender, deliver)
        self.end: EndReason | None = None
        """Why the session has ended early."""
        self._name = name
        self._converter = converter
        self._sender = sender
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._grace = 0.0
        self.source_ended = asyncio.Event()
        """Set when the source thread ends."""

    async def run(self) -> None:
        """Run until the end of the video, or until `close`. All frames then have an outcome."""
        name = f"video {self._name}"[:_MAX_THREAD_NAME]
        threading.Thread(target=self._read, name=name, daemon=True).start()
        idle, closed = (
            asyncio.create_task(coroutine) for coroutine in (self.slots.idle(), self._closed.wait())
        )
        try:
            await asyncio.wait((idle, closed), return_when=asyncio.FIRST_COMPLETED)
            if not idle.done():
                await asyncio.wait((idle,), timeout=self._grace)
        finally:
            # Also if the task of the stream is cancelled.
            idle.cancel()
            closed.cancel()
            self.close(VideoReason.STOPPED, "the stream was stopped", grace=0.0)
            await self.slots.cancel()
            # The source thread may still have a frame to count.
            with suppress(TimeoutError):
                async with asyncio.timeout(_SOURCE_TIMEOUT):
                    await self.source_ended.wait()
        if not self.source_ended.is_set():
            log.warning("stream %s: the source does not end", self._name)

    def close(self, reason: VideoReason, detail: str, *, grace: float) -> None:
        """End the session. Requests in flight have `grace` seconds for their responses."""
        if self._closed.is_set() or self.slots.is_idle:
            return
        if self.end is None:
            self.end = EndReason(reason=reason, detail=printable(detail, MAX_DETAIL))
        self._grace = grace
        self._closed.set()
        self.slots.close()
        if not self.source_ended.is_set():
            self._threads.closed(self, time.monotonic())
        self.source.close()

    def _source_ended(self, end: EndReason | None) -> None:
        self.source_ended.set()
        self._threads.ended(self)
        if self.end is None:
            self.end = end
        self.slots.end()

    # Source thread.

    def _read(self) -> None:
        end: EndReason | None = None
        try:
            for frame in self.source.frames():
                self._offer(PendingFrame.of(frame))
                del frame  # while the thread waits for the next one
        except SourceError as error:
            end = EndReason(reason=error.reason, detail=printable(error.detail, MAX_DETAIL))
        except Exception:
            log.exception("stream %s: the source has failed", self._name)
            end = EndReason(reason=VideoReason.INTERNAL_ERROR, detail="the source has failed")
        finally:
            self.source.close()
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._source_ended, end)

    def _offer(self, frame: PendingFrame) -> None:
        if self.first_frame is None:
            self.first_frame = frame.decoded
        self.rate.add(frame.decoded)
        hand_over = self.slots.hand_over
        if hand_over.converts_now():
            frame.convert(self._converter, keep_frame=self._sender.keeps_frames)
        hand_over.offer(frame)
