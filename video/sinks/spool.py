"""Events that wait for a sink, on disk, so that they survive the end of the process."""

from collections import deque
from pathlib import Path

from video.sinks.event_queue import MAX_MEMORY
from video.sinks.spool_log import SpoolLog
from video.sinks.transport import StoredEvent


class SpoolQueue:
    """Keeps events in a log. Those that cannot be written, such as to a full disk, are in memory.

    `max_size`: bytes of the log from which the queue is full. `max_events`: the same for the events
    in memory.
    """

    def __init__(self, folder: Path, max_size: int, max_events: int) -> None:
        self.error = ""
        self._folder, self._max_size, self._max_events = folder, max_size, max_events
        self._log: SpoolLog | None = None
        self._closed = False
        self._unwritten: deque[StoredEvent] = deque()
        self._unwritten_bytes = 0

    @property
    def full(self) -> bool:
        """Whether the log has `max_size`, or too much is in memory."""
        if len(self._unwritten) >= self._max_events or self._unwritten_bytes >= MAX_MEMORY:
            return True
        return self._log is not None and self._log.size >= self._max_size

    @property
    def waiting(self) -> int:
        """Number of events that are not confirmed."""
        return len(self._unwritten) + (0 if self._log is None else self._log.waiting)

    def open(self) -> None:
        """Read what an earlier process has left. Blocks a thread. Raises OSError."""
        if self._log is None:
            self._log = SpoolLog(self._folder, self._max_size)
        if self._closed:
            # The sink stopped meanwhile.
            self._log.close()

    def append(self, event: StoredEvent) -> None:
        """Add an event."""
        self._unwritten.append(event)
        self._unwritten_bytes += len(event.data)
        self._write()

    def oldest(self, max_events: int, max_bytes: int) -> list[StoredEvent]:
        """The oldest events. Raises OSError."""
        assert self._log is not None
        self._write()
        if self._log.waiting:
            return self._log.oldest(max_events, max_bytes)
        # The disk takes none. The sink may.
        return [self._unwritten[0]] if self._unwritten else []

    def confirm(self, count: int) -> None:
        """Forget events."""
        assert self._log is not None
        if not self._log.waiting:
            self._unwritten_bytes -= len(self._unwritten.popleft().data)
            return
        try:
            self._log.confirm(count)
        except OSError as error:
            # After a restart, the sink gets the events again.
            self._failed(error)

    def close(self) -> None:
        """Close the log. What waits in it is for the next process."""
        self._closed = True
        if self._log is not None:
            self._write()
            self._log.close()

    def _write(self) -> None:
        if self._log is None or not self._unwritten:
            return
        try:
            self._log.append(self._unwritten)
        except OSError as error:
            self._failed(error)
            return
        self._unwritten.clear()
        self._unwritten_bytes = 0
        self.error = ""

    def _failed(self, error: OSError) -> None:
        self.error = f"spool: {error.strerror or type(error).__name__}"
