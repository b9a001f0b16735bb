"""Events as lines of JSON on stdout. A slow reader holds the stream up, and not the process."""

import asyncio
import sys
import threading
from queue import SimpleQueue
from typing import Final

from protos.video_pb2 import AnalysisResult
from video.results.encoding import Encoding, encode

MAX_WAITING: Final = 1000
"""Events that may wait for the reader of stdout before the stream is held up."""


class EventLines:
    """An output that writes on a thread of its own. Create it on the event loop."""

    wants_frames = False

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        """Set when nobody reads stdout any more."""
        self._queue = SimpleQueue[bytes | None]()
        self._room = asyncio.Event()
        self._room.set()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="stdout", daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        """Whether few events wait."""
        return self._room.is_set()

    async def wait_ready(self) -> None:
        """Return when few events wait."""
        await self._room.wait()

    def put(self, event: AnalysisResult, _: object) -> None:
        """Write the event later."""
        self._queue.put(encode(Encoding.NDJSON, event))
        if self._queue.qsize() >= MAX_WAITING:
            self._room.clear()

    async def finish(self) -> None:
        """Return when all events are written. Raises BrokenPipeError if nobody reads them."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self.closed.is_set():
            raise BrokenPipeError

    def _write(self) -> None:
        try:
            while (line := self._queue.get()) is not None:
                sys.stdout.buffer.write(line)
                if self._queue.empty():
                    sys.stdout.buffer.flush()
                if self._queue.qsize() < MAX_WAITING // 2 and not self._room.is_set():
                    self._loop.call_soon_threadsafe(self._room.set)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            self._loop.call_soon_threadsafe(self.closed.set)
