"""How long a worker has been silent, from the counts of its heartbeats."""

from dataclasses import dataclass, field

BEAT_INTERVAL = 0.25
"""Seconds between two heartbeats of a worker."""

CHECK_INTERVAL = 0.25
"""Seconds between two looks of the supervisor at a worker's heartbeats."""

MAX_STEP = 2 * CHECK_INTERVAL
"""Maximum seconds of silence that one look adds. The supervisor looks late if the whole machine was
paused or overloaded. The workers did not run at that time either, and must not be killed for it."""


@dataclass(slots=True)
class Silence:
    """Measures how long a process has been silent. Pure: times and counts are passed in.

    `started_at` is the time of the process's start, `count` the count that its predecessor left.
    """

    started_at: float
    count: int
    seconds: float = field(default=0.0, init=False)
    """Silence at the latest look, without times at which the supervisor did not look."""
    has_beaten: bool = field(default=False, init=False)
    _looked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked_at = self.started_at

    def look(self, now: float, count: int) -> None:
        """Take note of the count at this time."""
        step = min(now - self._looked_at, MAX_STEP)
        self._looked_at = now
        if count == self.count:
            self.seconds += step
        else:
            self.count, self.has_beaten, self.seconds = count, True, 0.0
