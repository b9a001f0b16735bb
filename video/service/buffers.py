"""Outputs that a client reads: bounded buffers between a stream and the call of the client."""

import asyncio
from collections import deque
from typing import Final

from protos.video_pb2 import AnalysisResult, Watched
from video.frame import Frame

MAX_EVENTS: Final = 64
MAX_BYTES: Final = 1 << 20
"""Events that wait for the client of an upload. While there are so many, no frame gets a slot."""

MAX_WATCHED_EVENTS: Final = 1024
MAX_WATCHED_BYTES: Final = 4 << 20
"""Events that wait for a watcher. The oldest ones are dropped for newer ones."""


class _Buffer:
    """Events in their order, until a summary of an upload or `close`. One task reads."""

    wants_frames = False

    def __init__(self) -> None:
        self._events: deque[AnalysisResult] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Give the reader what there is, and then the end."""
        self._closed = True
        self._changed.set()

    async def next_events(self) -> list[AnalysisResult]:
        """All events that wait, at least one; none after `close`."""
        while not self._events and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        events = list(self._events)
        self._events.clear()
        self._bytes = 0
        return events

    def _append(self, event: AnalysisResult) -> None:
        self._events.append(event)
        self._bytes += event.ByteSize()
        self._changed.set()


class UploadBuffer(_Buffer):
    """The events of an upload. It is not ready while the client does not read."""

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._max_events, self._max_bytes = max_events, max_bytes
        self._room = asyncio.Event()
        self._room.set()

    def ready(self) -> bool:
        """Whether there is room."""
        return len(self._events) < self._max_events and self._bytes < self._max_bytes

    async def wait_ready(self) -> None:
        """Return when there is room."""
        while not self.ready():
            self._room.clear()
            await self._room.wait()

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        """Keep the event for the client. A summary is the last one."""
        del frame
        self._append(event)
        if event.HasField("end"):
            self.close()

    async def next_events(self) -> list[AnalysisResult]:
        """All events that wait, at least one; none after `close`. There is room again."""
        events = await super().next_events()
        self._room.set()
        return events


class WatchBuffer(_Buffer):
    """The events of a stream that a client watches. It never holds up the stream."""

    def __init__(
        self, max_events: int = MAX_WATCHED_EVENTS, max_bytes: int = MAX_WATCHED_BYTES
    ) -> None:
        super().__init__()
        self._max_events, self._max_bytes = max_events, max_bytes
        self.dropped = 0

    def ready(self) -> bool:
        """Always."""
        return True

    async def wait_ready(self) -> None:
        """Return at once."""

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        """Keep the event for the client, and drop the oldest ones if there are too many."""
        del frame
        self._append(event)
        while len(self._events) > self._max_events or (
            self._bytes > self._max_bytes and len(self._events) > 1
        ):
            self._bytes -= self._events.popleft().ByteSize()
            self.dropped += 1

    def take(self, watched: Watched) -> None:
        """Keep events that another worker has sent."""
        for event in watched.events:
            self.put(event, None)
