"""What happens in the control plane, for operators who watch: a bounded list of numbered events.

Readers are never waited for. A reader that is slower than the events loses its place in the list.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

EventKind = Literal["revision", "rollout", "nack", "node", "endpoint", "canary"]
KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)

CAPACITY: Final = 1000
"""Events that are kept: what a reader may lag behind, or miss while it connects again."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `number` counts the events of this process from 1; `at` is in Unix seconds."""

    number: int
    kind: EventKind
    at: float
    data: Mapping[str, object]


class MissedError(Exception):
    """The events that a reader has not read yet are no longer kept."""


class Events:
    """The latest events. `now` returns Unix seconds."""

    def __init__(self, now: Callable[[], float] = time.time, capacity: int = CAPACITY) -> None:
        self._now = now
        self._kept: deque[Event] = deque(maxlen=capacity)
        self._last = 0
        self._emitted = asyncio.Event()
        self._closed = False

    @property
    def last(self) -> int:
        """The number of the latest event; 0 before the first."""
        return self._last

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is kept, or of the next one if none is."""
        return self._kept[0].number if self._kept else self._last + 1

    def emit(self, kind: EventKind, **data: object) -> None:
        """Add an event, in the event loop. `data` must be plain data without secrets."""
        self._last += 1
        self._kept.append(Event(self._last, kind, self._now(), data))
        emitted, self._emitted = self._emitted, asyncio.Event()
        emitted.set()

    def close(self) -> None:
        """End all readers, after the events that they have not read yet."""
        self._closed = True
        self._emitted.set()

    async def after(self, number: int) -> AsyncGenerator[Event]:
        """Every event above a number, in order. Waits for the next, until `close`.

        Raises MissedError if the next event is no longer kept.
        """
        while True:
            emitted = self._emitted
            while number < self._last:
                if number + 1 < self.oldest:
                    raise MissedError
                event = self._kept[number + 1 - self.oldest]
                number = event.number
                yield event
            if self._closed:
                return
            await emitted.wait()
