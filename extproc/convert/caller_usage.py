"""Thread time that each caller has used lately, so that waiting callers can be served in turn."""

from collections import OrderedDict

HALF_LIFE = 10.0
"""Seconds after which used thread time counts half. A caller that stops is soon equal to others."""

MAX_CALLERS = 4096
"""Callers whose thread time is kept. The caller that used a thread the longest time ago is dropped
first: it starts again at 0, as a new caller does."""


class CallerUsage:
    """Decayed thread seconds by caller. `now` is in seconds and must not decrease."""

    def __init__(self, max_callers: int = MAX_CALLERS) -> None:
        self._max_callers = max_callers
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Seconds, and the time at which they were correct."""

    def __len__(self) -> int:
        return len(self._used)

    def add(self, caller: str, seconds: float, now: float) -> None:
        """Charge a caller for thread time."""
        self._used[caller] = (self.seconds(caller, now) + seconds, now)
        self._used.move_to_end(caller)
        if len(self._used) > self._max_callers:
            self._used.popitem(last=False)

    def seconds(self, caller: str, now: float) -> float:
        """The caller's thread seconds; 0 for an unknown caller."""
        seconds, at = self._used.get(caller, (0.0, now))
        return seconds * float(2 ** ((at - now) / HALF_LIFE))
