"""Finds source threads that do not end: a decoder can hang on hostile input, and no thread can be
stopped from outside."""

from collections.abc import Hashable


class SourceThreads:
    """The source threads that must end, with the time at which they were told to."""

    def __init__(self) -> None:
        self._ending: dict[Hashable, float] = {}

    def closed(self, session: Hashable, now: float) -> None:
        """The source of a session was closed while its thread runs."""
        self._ending.setdefault(session, now)

    def ended(self, session: Hashable) -> None:
        """The thread of a session has ended."""
        self._ending.pop(session, None)

    def longest_hang(self, now: float) -> float:
        """Seconds since the longest-hanging source was closed; 0 if none hangs.

        Sources end within a second. A worker whose source hangs for long must be replaced.
        """
        return now - min(self._ending.values(), default=now)
