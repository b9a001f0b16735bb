"""Passes the bytes of an upload from the event loop to its source thread."""

import asyncio
import contextlib
import threading
from collections import deque

from sluice.contract.video import VideoReason
from video.source import SourceError

CAPACITY = 1 << 20
"""Bytes that may wait for the source thread. More let the client wait."""


class ByteQueue:
    """A bounded queue of bytes. A ByteReader for one thread, filled by one task.

    `received` counts the bytes that were put.
    """

    def __init__(self, idle_timeout: float, capacity: int = CAPACITY) -> None:
        self._idle_timeout = idle_timeout
        self._capacity = capacity
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        self._size = 0
        self._ended = False
        self._closed = False
        self._failure: SourceError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._space: asyncio.Event | None = None
        self.received = 0

    async def put(self, chunk: bytes) -> bool:
        """Add bytes, and wait until the queue has space. False if nothing reads them any more."""
        space = None
        with self._changed:
            if self._closed:
                return False
            if chunk:
                self.received += len(chunk)
                self._chunks.append(chunk)
                self._size += len(chunk)
                self._changed.notify()
            if self._size > self._capacity:
                self._loop = asyncio.get_running_loop()
                self._space = space = asyncio.Event()
        if space is not None:
            await space.wait()
        return not self._closed

    def end(self) -> None:
        """The upload is complete."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def fail(self, reason: VideoReason, detail: str) -> None:
        """The upload ended early. The thread reads what is there, and then gets a SourceError."""
        with self._changed:
            if self._failure is None and not self._ended:
                self._failure = SourceError(reason, detail)
            self._changed.notify()

    def close(self) -> None:
        """Drop the bytes, and end a blocked `read` and `put`. May be called from any thread."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._size = self._offset = 0
            self._changed.notify()
            self._release()

    def read(self, size: int, /) -> bytes:
        """At least one byte and at most `size`, or no byte at the end. Raises SourceError."""
        with self._changed:
            if not self._changed.wait_for(self._readable, self._idle_timeout):
                message = f"no byte arrived for {self._idle_timeout:g} s"
                raise SourceError(VideoReason.IDLE, message)
            if self._chunks:
                return self._take(size)
            if self._failure is not None and not self._closed:
                raise self._failure
            return b""

    def _readable(self) -> bool:
        return bool(self._chunks) or self._ended or self._closed or self._failure is not None

    def _take(self, size: int) -> bytes:
        chunk = self._chunks[0]
        # Most chunks are passed without a copy.
        whole = not self._offset and len(chunk) <= size
        part = chunk if whole else chunk[self._offset : self._offset + size]
        self._offset += len(part)
        if self._offset == len(chunk):
            self._chunks.popleft()
            self._offset = 0
        self._size -= len(part)
        if self._size <= self._capacity:
            self._release()
        return part

    def _release(self) -> None:
        """Let a waiting `put` return."""
        if self._space is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed, and its tasks with it.
                self._loop.call_soon_threadsafe(self._space.set)
            self._space = None
