"""The counts of one version, in buckets of time, from which sliding windows are made."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from xds.envoys.histogram import Histogram
from xds.envoys.reporters import Comparison, Counts

FINE, FINE_BUCKETS = 5.0, 12
COARSE_FACTOR, COARSE_BUCKETS = 6, 20
"""A window is the sum of buckets of 5 s for the last minute, and of 30 s before that: a version
with traffic takes a few KiB."""

MAX_WINDOW: Final = FINE * COARSE_FACTOR * COARSE_BUCKETS
"""Seconds of the longest window."""

MAX_SERIES: Final = 10_000
"""Versions with counts, of one source, to bound their memory: each has buckets of its own."""


@dataclass(slots=True)
class Total:
    """The counts of a version since the start of the control plane."""

    requests: int = 0
    errors: int = 0
    comparison: Comparison = field(default_factory=Comparison)


@dataclass(slots=True)
class Bucket:
    """The counts of one interval. Its times are those of `number` times its width."""

    number: int
    requests: int = 0
    errors: int = 0
    latencies: Histogram = field(default_factory=Histogram)
    comparison: Comparison = field(default_factory=Comparison)

    def merge(self, other: "Bucket") -> None:
        """Add the counts of another bucket."""
        self.requests += other.requests
        self.errors += other.errors
        self.latencies.merge(other.latencies)
        self.comparison.merge(other.comparison)


class Series:
    """The buckets of one version that are not empty, oldest first."""

    __slots__ = ("_coarse", "_fine")

    def __init__(self) -> None:
        self._fine: deque[Bucket] = deque()
        self._coarse: deque[Bucket] = deque()

    def add(self, now: float, counts: Counts) -> None:
        """Add counts to the present bucket."""
        number = int(now // FINE)
        if not self._fine or self._fine[-1].number != number:
            self._fine.append(Bucket(number))
            self._age(number)
        newest = self._fine[-1]
        newest.requests += counts.requests
        newest.errors += counts.errors
        newest.latencies.add(counts.latencies)
        newest.comparison.merge(counts.comparison)

    def since(self, start: float) -> Iterator[Bucket]:
        """The buckets that began at this time or later."""
        yield from (each for each in self._coarse if each.number * FINE * COARSE_FACTOR >= start)
        yield from (each for each in self._fine if each.number * FINE >= start)

    def is_old(self, now: float) -> bool:
        """Whether no window has any of the buckets."""
        return not self._fine or (self._fine[-1].number + 1) * FINE < now - MAX_WINDOW

    def _age(self, number: int) -> None:
        while self._fine[0].number <= number - FINE_BUCKETS - COARSE_FACTOR:
            self._age_one(self._fine.popleft())
        oldest = number // COARSE_FACTOR - COARSE_BUCKETS
        while self._coarse and self._coarse[0].number < oldest:
            self._coarse.popleft()

    def _age_one(self, bucket: Bucket) -> None:
        number = bucket.number // COARSE_FACTOR
        if not self._coarse or self._coarse[-1].number != number:
            self._coarse.append(Bucket(number))
        self._coarse[-1].merge(bucket)
