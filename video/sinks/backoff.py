"""Delays before events are sent again. Pure: the random number is passed in."""

from typing import Final

FIRST_DELAY: Final = 0.25
MAX_DELAY: Final = 30.0
"""Seconds."""
MAX_RETRY_AFTER: Final = 300.0
"""Seconds for which a receiver may ask to wait."""


class Backoff:
    """Doubles the delay with each failure."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = FIRST_DELAY

    def delay(self, share: float, retry_after: float = 0.0) -> float:
        """Seconds to wait after a failure. `share`: a random number from 0 to 1.

        Half of the delay is random, so that the sinks of many streams do not send at one time.
        """
        delay = self._next * (0.5 + share / 2)
        self._next = min(self._next * 2, MAX_DELAY)
        return max(delay, min(retry_after, MAX_RETRY_AFTER))

    def reset(self) -> None:
        """The events have been delivered."""
        self._next = FIRST_DELAY
