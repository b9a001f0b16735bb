"""Rates and latencies of the last seconds, in bounded memory. Pure: times are passed in."""

import math
from array import array
from typing import Final

WINDOW: Final = 10
"""Seconds."""

_GROWTH: Final = math.log(1.08)
_SMALLEST: Final = 0.0001
_BUCKETS: Final = 204
"""Buckets from 0.1 ms to 10 minutes. The bound of each is 8 % above that of the one before, so a
quantile is off by 4 % at most."""


class RecentRate:
    """Counts events in each of the last seconds. One thread adds, others may read."""

    def __init__(self, now: float) -> None:
        self._start = now
        self._seconds = [-1] * WINDOW
        self._counts = [0] * WINDOW

    def add(self, now: float) -> None:
        """Count an event."""
        second = int(now)
        slot = second % WINDOW
        if self._seconds[slot] != second:
            self._counts[slot] = 0
            self._seconds[slot] = second
        self._counts[slot] += 1

    def per_second(self, now: float) -> float:
        """Events per second over the last seconds, or since the start."""
        first = int(now) - WINDOW + 1
        pairs = zip(self._seconds, self._counts, strict=True)
        count = sum(count for second, count in pairs if second >= first)
        return count / max(1.0, min(now - first, now - self._start))


class RecentLatencies:
    """A histogram of latencies for each of the last seconds."""

    def __init__(self) -> None:
        self._seconds = [-1] * WINDOW
        self._histograms = [array("I", bytes(4 * _BUCKETS)) for _ in range(WINDOW)]

    def add(self, now: float, seconds: float) -> None:
        """Count a latency."""
        second = int(now)
        slot = second % WINDOW
        if self._seconds[slot] != second:
            self._histograms[slot] = array("I", bytes(4 * _BUCKETS))
            self._seconds[slot] = second
        self._histograms[slot][_bucket(seconds)] += 1

    def quantiles(self, now: float, *shares: float) -> list[float]:
        """The latency in seconds that each share of the last results did not exceed; 0 without any.

        `shares` are from 0 to 1.
        """
        first = int(now) - WINDOW + 1
        pairs = zip(self._seconds, self._histograms, strict=True)
        recent = [histogram for second, histogram in pairs if second >= first]
        totals = [sum(column) for column in zip(*recent, strict=True)]
        return [_quantile(totals, share) for share in shares]


def _bucket(seconds: float) -> int:
    if seconds <= _SMALLEST:
        return 0
    return min(_BUCKETS - 1, 1 + int(math.log(seconds / _SMALLEST) / _GROWTH))


def _quantile(counts: list[int], share: float) -> float:
    wanted, passed = share * sum(counts), 0
    for bucket, count in enumerate(counts):
        passed += count
        if count and passed >= wanted:
            return _SMALLEST * math.exp((bucket - 0.5) * _GROWTH)
    return 0.0
