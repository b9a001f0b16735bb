"""Restart policy of child processes. Pure: times are passed in."""

from dataclasses import dataclass, field

MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.05, 5.0
"""Seconds before the first restart, and maximum seconds before a restart."""

STABLE_AFTER = 5.0
"""Seconds. A process that ran longer than this resets the delay."""


@dataclass(slots=True)
class RestartBackoff:
    """Doubles the restart delay each time a process ends soon after its start."""

    _next_delay: float = field(default=MIN_RESTART_DELAY, init=False)

    def delay_after(self, uptime: float) -> float:
        """Return the seconds to wait before the restart of a process that ran for `uptime`."""
        if uptime > STABLE_AFTER:
            self._next_delay = MIN_RESTART_DELAY
        delay = self._next_delay
        self._next_delay = min(delay * 2, MAX_RESTART_DELAY)
        return delay
