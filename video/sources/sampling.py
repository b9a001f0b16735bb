"""Chooses frames by their presentation time: pure, without a clock.

A grid of due times starts at the first frame. The frame that is nearest to a due time is sampled,
so that jitter and rounded timestamps neither lose frames nor let the rate drift.
"""

import math
from dataclasses import dataclass

MAX_GAP = 60.0
"""Seconds. A larger step of the timestamps is a jump, and not a pause."""

MAX_DISORDER = 0.5
"""Seconds. A larger step back of the timestamps is a jump. A smaller one is a late frame."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Frames per second of presentation time. None samples all frames."""

    rate: float | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            raise ValueError(f"rate {self.rate} must be more than 0")


class PresentationClock:
    """Makes times from timestamps: seconds since the first frame that never decrease.

    A frame without a timestamp, and the first frame after a jump, is one interval after the frame
    before it.
    """

    def __init__(self, interval: float) -> None:
        """`interval` is the nominal time between two frames in seconds."""
        self._interval = interval
        self._last: float | None = None
        self._time = 0.0

    def advance(self, timestamp: float | None) -> float:
        """The time of the next frame. `timestamp` is in seconds."""
        if timestamp is None or self._last is None:
            if self._last is not None:
                self._last += self._interval
                self._time += self._interval
            elif timestamp is not None:
                self._last = timestamp
            else:
                self._last = 0.0
            return self._time
        step = timestamp - self._last
        if -MAX_DISORDER <= step <= 0:
            return self._time
        if not -MAX_DISORDER <= step <= MAX_GAP:
            step = self._interval
        elif step < 1.0:
            self._interval = step
        self._last = timestamp
        self._time += step
        return self._time


class Sampler:
    """Says for each frame, in the order of the times, whether it is sampled."""

    def __init__(self, sampling: Sampling) -> None:
        self._rate = sampling.rate
        self._last: float | None = None
        self._slot = 0
        """Due time of the next sampled frame, in intervals of the rate."""

    @property
    def due(self) -> float:
        """Time at which the next frame is due. All frames are due without a rate."""
        return 0.0 if self._rate is None else self._slot / self._rate

    def sample(self, time: float) -> bool:
        """Whether the frame of this time is sampled. Times must not decrease."""
        rate = self._rate
        if rate is None:
            return True
        # The next frame comes after about as much time. It is farther from the due time than this
        # frame if the due time is before the middle.
        step = 0.0 if self._last is None else min(time - self._last, 1 / rate)
        self._last = time
        reached = math.floor((time + step / 2) * rate + 1e-6)
        if reached < self._slot:
            return False
        self._slot = reached + 1
        return True
