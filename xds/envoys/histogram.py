"""A histogram of latencies that takes little memory: it stores only the bins between the smallest
and the largest latency."""

from array import array
from collections.abc import Mapping

from sluice.contract.traffic import bin_start


class Histogram:
    """Counts latencies in the bins of `sluice.contract.traffic`."""

    __slots__ = ("_counts", "_first")

    def __init__(self) -> None:
        self._first = 0
        self._counts = array("Q")

    def add(self, bins: Mapping[int, int]) -> None:
        """Add counts by bin."""
        if bins:
            self._reserve(min(bins), max(bins))
            counts, first = self._counts, self._first
            for number, count in bins.items():
                counts[number - first] += count

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another histogram."""
        self.add(other.bins)

    @property
    def bins(self) -> dict[int, int]:
        """The counts by bin, of bins that are not empty."""
        return {self._first + i: count for i, count in enumerate(self._counts) if count}

    @property
    def total(self) -> int:
        """The number of latencies."""
        return sum(self._counts)

    def quantile(self, share: float) -> float | None:
        """The latency in seconds that this share (0 to 1) does not exceed; None without latencies.

        Within a bin, latencies are taken as evenly distributed.
        """
        total = self.total
        if not total:
            return None
        rank, below = max(share * total, 1e-9), 0
        for number, count in enumerate(self._counts, self._first):
            if count and below + count >= rank:
                start, end = bin_start(number), bin_start(number + 1)
                return (start + (end - start) * (rank - below) / count) / 1e6
            below += count
        return bin_start(self._first + len(self._counts)) / 1e6

    def _reserve(self, lowest: int, highest: int) -> None:
        """Have room for these bins and those between them."""
        if not self._counts:
            self._first = lowest
        if lowest < self._first:
            self._counts = array("Q", [0]) * (self._first - lowest) + self._counts
            self._first = lowest
        missing = highest - self._first + 1 - len(self._counts)
        if missing > 0:
            self._counts.extend([0] * missing)
