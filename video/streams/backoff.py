"""When a camera is connected again. Pure: times and randomness are passed in."""

from dataclasses import dataclass, field
from typing import Final

MIN_DELAY: Final = 0.5
MAX_DELAY: Final = 30.0
"""Seconds before the first attempt, and the longest delay, on average."""

STABLE_AFTER: Final = 30.0
"""Seconds with frames after which the delay is reset."""


@dataclass(slots=True)
class ReconnectBackoff:
    """Doubles the delay after each session that was not stable."""

    _next_delay: float = field(default=MIN_DELAY, init=False)

    def delay_after(self, uptime: float, random: float) -> float:
        """Seconds to wait after a session that had frames for `uptime` seconds.

        `random`: from 0 to 1. The delay differs by up to a quarter, so that many cameras behind one
        switch do not come back at the same moment.
        """
        if uptime >= STABLE_AFTER:
            self._next_delay = MIN_DELAY
        delay = self._next_delay
        self._next_delay = min(delay * 2, MAX_DELAY)
        return delay * (0.75 + 0.5 * random)
