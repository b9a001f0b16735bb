"""Bounds the time that received messages take in one iteration of the event loop.

One read of a socket can contain thousands of small messages, and so can the buffer of a call. Other
work, such as responses to other calls, runs between two turns.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

TURN_SECONDS: Final = 0.01
"""Time of a turn. A handler looks at the clock only between two messages or parts of a read, so a
turn may take a few milliseconds more."""


class Turns:
    """The turns of one event loop. All connections and calls of a server share them."""

    __slots__ = ("_clock", "_end", "_loop", "_waiting")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # uvloop's own clock stands still during an iteration.
        self._loop = loop
        self._clock = clock
        self._end: float | None = None
        """The end of the turn; None if none has begun in this iteration."""
        self._waiting: deque[Callable[[], None]] = deque()

    def is_over(self) -> bool:
        """Whether the rest of the work must wait. The first call in an iteration begins a turn."""
        if self._end is None:
            self._end = self._clock() + TURN_SECONDS
            self._loop.call_soon(self._begin_next)
            return False
        return self._clock() >= self._end

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a later turn, after those that wait already. The turn must be over."""
        self._waiting.append(go_on)

    def _begin_next(self) -> None:
        self._end = None
        while self._waiting and not self.is_over():
            self._waiting.popleft()()
