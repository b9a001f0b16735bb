"""The latest uses of evicted keys, in a fixed amount of memory.

A key that returns gets the time of its latest use, or a later one: its cells may also hold later
uses of other keys. A key that was not evicted usually has a cell that no evicted key shares, so it
is not mistaken for one of them. The structure is a count-min sketch with times instead of counts
(Cormode and Muthukrishnan, 2005).
"""

from array import array
from collections.abc import Iterator

from extproc.limits.arithmetic import NEVER

_ROWS = 3
_INDEX_BITS = 18
_MASK = (1 << _INDEX_BITS) - 1
"""Three indexes of 18 bits come from one hash of 64 bits. The cells take 6 MiB. If 60,000 keys have
been evicted lately, a new key is mistaken for one of them in 1 of 100 cases. Python's hash of a
text is keyed, so a client cannot choose keys that share cells."""


class EvictedUses:
    """Times of latest uses by key. The memory is allocated when the first key is evicted."""

    def __init__(self) -> None:
        self._rows: list[array[int]] = []

    def record(self, key: str, used: int) -> None:
        """Record the latest use of an evicted key."""
        if not self._rows:
            self._rows = [array("q", [NEVER]) * (_MASK + 1) for _ in range(_ROWS)]
        for row, index in zip(self._rows, _indexes(key), strict=True):
            row[index] = max(row[index], used)

    def latest(self, key: str) -> int:
        """The latest use of the key, or a later time. NEVER if the key was not evicted."""
        if not self._rows:
            return NEVER
        return min(row[index] for row, index in zip(self._rows, _indexes(key), strict=True))


def _indexes(key: str) -> Iterator[int]:
    digest = hash(key)
    for row in range(_ROWS):
        yield digest >> (row * _INDEX_BITS) & _MASK
