"""Tells the workers which versions may have changed, so that no worker looks at all versions."""

from collections.abc import Sequence

from extproc.counter_table import CounterTable

_NAME = "breaker news"

RING = 64
"""Latest news of a worker that the others can read: more than a worker usually adds between two
looks of another worker. A worker that misses some evaluates every version, which is slower."""


class News:
    """Each worker writes to a ring in its row of the table, and reads the rings of the others.

    An item is the first column of a version. The first cell of a ring counts the items ever added.
    News from before the creation of this object are not read. Raises TableFullError.
    """

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._column = table.column(_NAME, 1 + RING)
        self._read = table.values(self._column)

    def add(self, item: int) -> None:
        """Tell the other workers that this version may have changed."""
        count = self._table.get(self._column)
        self._table.set(self._column + 1 + count % RING, item)
        # The others see the item from here on.
        self._table.set(self._column, count + 1)

    def read(self) -> Sequence[int] | None:
        """Return the news of the other workers since the last call; None if some are lost."""
        counts = self._table.values(self._column)
        if counts == self._read:
            return ()
        previous, self._read = self._read, counts
        items: list[int] = []
        for row, count in enumerate(counts):
            if row == self._table.row or count == previous[row]:
                continue
            ring = self._table.block(row, self._column + 1, RING)
            # The worker may be overwriting the next place of its ring.
            if self._table.block(row, self._column, 1)[0] - previous[row] >= RING:
                return None
            items += (ring[number % RING] for number in range(previous[row], count))
        return items
