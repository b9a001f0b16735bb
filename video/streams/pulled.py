"""A pulled stream: connects to a camera, analyses its video, and connects again when it ends."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Final

from sluice.contract.video import VideoReason
from video.inference.caller_headers import Metadata
from video.source import FrameSource
from video.streams.backoff import ReconnectBackoff
from video.streams.status import StreamState
from video.streams.stream import EndedSession, Stream

log = logging.getLogger(__name__)

_LOOKS: Final = 4
"""How often the watch looks for new frames within the stall timeout."""

_STALL_GRACE: Final = 1.0
"""Seconds for requests in flight when a camera has stalled."""


class PulledStream:
    """Runs until it is stopped. The counts of `stream` go on over all connections.

    `open_source` makes a source that connects when it is read. `caller`: the headers with
    credentials for the gateway. `sleep` waits before a new connection.
    """

    def __init__(
        self,
        stream: Stream,
        open_source: Callable[[], FrameSource],
        caller: Metadata,
        sleep: Callable[[float], Coroutine[object, object, None]] = asyncio.sleep,
    ) -> None:
        self.stream = stream
        self._open_source = open_source
        self._caller = caller
        self._sleep = sleep
        self._backoff = ReconnectBackoff()
        self._stopping = asyncio.Event()
        self._grace = 0.0
        self._logged: str | None = None
        """The reason of the last session that was logged: the next attempts often have the same."""

    async def run(self) -> None:
        """Analyse the videos of the camera until `stop`."""
        name = self.stream.settings.name
        while not self._stopping.is_set():
            session = await self._connect()
            if self._stopping.is_set():
                break
            uptime, ended = session.uptime, _why(session)
            delay = self._backoff.delay_after(uptime, random.random())  # noqa: S311
            self.stream.enter(StreamState.WAITING, ended)
            reason = ended.partition(":")[0]
            if uptime or reason != self._logged:
                log.warning("stream %s: connects again: %s", name, ended)
            self._logged = reason
            # A source that hangs keeps its thread, so the next one must wait.
            await self._unless_stopped(session.source_ended.wait())
            await self._unless_stopped(self._sleep(delay))
            self.stream.counters.reconnects += 1
        self.stream.enter(StreamState.STOPPED)

    def stop(self, grace: float) -> None:
        """End `run`. Requests in flight have `grace` seconds for their responses."""
        self._grace = grace
        self._stopping.set()

    async def _connect(self) -> EndedSession:
        source = self._open_source()
        observers = [asyncio.create_task(each) for each in (self._watch(source), self._end())]
        try:
            return await self.stream.run(source, self._caller)
        finally:
            for observer in observers:
                observer.cancel()

    async def _watch(self, source: FrameSource) -> None:
        """End the session when no frame comes for the stall timeout."""
        timeout = self.stream.settings.stall_timeout
        received, since = source.counts.received, time.monotonic()
        while True:
            await asyncio.sleep(timeout / _LOOKS)
            now = time.monotonic()
            if source.counts.received != received or self.stream.holds_up_source():
                received, since = source.counts.received, now
            elif now - since >= timeout:
                detail = f"no frame came for {timeout:g} s"
                self.stream.end(VideoReason.IDLE, detail, grace=_STALL_GRACE)
                return

    async def _end(self) -> None:
        await self._stopping.wait()
        self.stream.end(VideoReason.STOPPED, "the stream was stopped", grace=self._grace)

    async def _unless_stopped(self, awaited: Coroutine[object, object, object]) -> None:
        """Wait until `awaited` or `stop`."""
        tasks = asyncio.create_task(awaited), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


def _why(session: EndedSession) -> str:
    """Why a session has ended."""
    end = session.event.end
    return f"{end.reason}: {end.detail}" if end.reason else "the camera has ended the video"
