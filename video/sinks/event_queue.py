"""Events that wait for a sink, in memory."""

from collections import deque
from typing import Final, Protocol

from video.sinks.transport import StoredEvent

MAX_MEMORY: Final = 64 << 20
"""Bytes of the events of one sink in memory from which its buffer is full."""


class EventQueue(Protocol):
    """Keeps events in order until the sink has them."""

    error: str
    """Why events are not kept as they should be; empty if they are."""

    @property
    def full(self) -> bool:
        """Whether no further events should come. Those that come nevertheless are kept."""

    @property
    def waiting(self) -> int:
        """Number of events that are not confirmed."""

    def open(self) -> None:
        """Read what an earlier process has left. Blocks a thread. Raises OSError."""

    def append(self, event: StoredEvent) -> None:
        """Add an event."""

    def oldest(self, max_events: int, max_bytes: int) -> list[StoredEvent]:
        """The oldest events, of which at least one. Empty only if none waits. Raises OSError."""

    def confirm(self, count: int) -> None:
        """Forget so many of the events that `oldest` has returned last."""

    def close(self) -> None:
        """Keep what waits for the next process, if the queue can."""


class MemoryQueue:
    """Keeps events in memory only."""

    def __init__(self, max_events: int) -> None:
        self.error = ""
        self._max_events = max_events
        self._events: deque[StoredEvent] = deque()
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether `max_events` or many bytes wait."""
        return len(self._events) >= self._max_events or self._bytes >= MAX_MEMORY

    @property
    def waiting(self) -> int:
        """Number of events that are not confirmed."""
        return len(self._events)

    def open(self) -> None:
        """Nothing is left from an earlier process."""

    def append(self, event: StoredEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self._bytes += len(event.data)

    def oldest(self, max_events: int, max_bytes: int) -> list[StoredEvent]:
        """The oldest events."""
        batch: list[StoredEvent] = []
        size = 0
        for event in self._events:
            size += len(event.data)
            if len(batch) == max_events or (batch and size > max_bytes):
                break
            batch.append(event)
        return batch

    def confirm(self, count: int) -> None:
        """Forget the oldest events."""
        for _ in range(count):
            self._bytes -= len(self._events.popleft().data)

    def close(self) -> None:
        """What waits is lost."""
