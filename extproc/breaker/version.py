"""The breaker of one version: its columns in the shared table, and its state.

Every worker counts the results that Envoy reports to it, in its own row. A worker evaluates the sum
of all rows, so all workers have the same state. When the breaker opens or closes, the worker writes
the time to the table; the latest entry of all rows counts.
"""

from extproc.breaker.window import (
    BreakerState,
    WindowBucket,
    recovered,
    state_from_window,
)
from extproc.counter_table import CounterTable
from sluice.config.breaker import BreakerConfig

MICROS_PER_SECOND = 1_000_000

_CELLS = 3
"""Columns of a bucket: its number (0: never used), successes, failures."""


class VersionBreaker:
    """The breaker of one version. Times are microseconds. Raises TableFullError.

    `state` is that of the latest evaluation.
    """

    __slots__ = (
        "_change_column",
        "_evaluated_in",
        "_latest_column",
        "_probe_column",
        "_slots",
        "_table",
        "_width",
        "config",
        "first_column",
        "has_failures",
        "next_evaluation",
        "state",
    )

    def __init__(self, table: CounterTable, cluster: str, config: BreakerConfig) -> None:
        self.config = config
        self._table = table
        self._width = int(config.window * MICROS_PER_SECOND) // config.buckets
        # One more than in the window, because one is being overwritten.
        self._slots = config.buckets + 1
        # Buckets of another width or number have other columns, because they are incompatible.
        name = f"breaker:{cluster}:{self._width}:{config.buckets}"
        self.first_column = table.column(name, self._slots * _CELLS + 3)
        # The latest change: its time, times 2, plus 1 if the breaker opened.
        self._change_column = self.first_column + self._slots * _CELLS
        # The number of the latest probe interval in which a probe was admitted.
        self._probe_column = self._change_column + 1
        # The number of the latest bucket.
        self._latest_column = self._change_column + 2
        self.state = BreakerState.CLOSED
        self.has_failures = False
        """Whether the window had failures at the latest evaluation."""
        self.next_evaluation = 0
        """When the passing of time alone may change the state: at the end of a bucket."""

    def record(self, now: int, count: int, *, ok: bool) -> bool:
        """Count results. Returns whether they are the first failures in a bucket of this worker."""
        number = now // self._width + 1
        column = self.first_column + number % self._slots * _CELLS
        table = self._table
        if table.get(column) != number:
            table.set(column + 1, 0)
            table.set(column + 2, 0)
            table.set(column, number)
            table.set(self._latest_column, number)
        table.add(column + (1 if ok else 2), count)
        return not ok and table.get(column + 2) == count

    def evaluate(self, now: int) -> list[WindowBucket]:
        """Update the state. Returns the window without what is older than the latest closing."""
        change = max(self._table.values(self._change_column))
        changed_at, is_open = change >> 1, bool(change & 1)
        first = changed_at // self._width + 1 if change else 0
        if is_open and recovered(self._window(now, first + 1), self.config):
            self._table.set(self._change_column, now << 1)
            is_open, first = False, now // self._width + 1
        window = self._window(now, 0 if is_open else first)
        self.state = BreakerState.OPEN if is_open else state_from_window(window, self.config)
        if self.state is BreakerState.OPEN and not is_open:
            self._table.set(self._change_column, now << 1 | 1)
        self.has_failures = any(failed for _, failed in window)
        self.next_evaluation = (now // self._width + 1) * self._width
        return window

    def take_probe(self, now: int) -> bool:
        """Return whether the request is the probe of this interval.

        Two workers that check at the same time may both admit a probe.
        """
        interval = now // int(self.config.probe_interval * MICROS_PER_SECOND)
        if max(self._table.values(self._probe_column)) >= interval:
            return False
        self._table.set(self._probe_column, interval)
        return True

    def _window(self, now: int, first: int) -> list[WindowBucket]:
        """Return the window, newest bucket first, without the buckets with a number below `first`.

        The list is empty for an idle version. This case comes first, because most versions are idle
        and the metrics read the windows of all.
        """
        newest = now // self._width + 1
        oldest = max(newest - self.config.buckets + 1, first)
        if max(self._table.values(self._latest_column)) < oldest:
            return []
        succeeded, failed = ([0] * (newest - oldest + 1) for _ in range(2))
        for row in range(self._table.rows):
            cells = self._table.block(row, self.first_column, self._slots * _CELLS)
            for number, successes, failures in zip(
                cells[::_CELLS], cells[1::_CELLS], cells[2::_CELLS], strict=True
            ):
                if oldest <= number <= newest:
                    succeeded[newest - number] += successes
                    failed[newest - number] += failures
        return list(zip(succeeded, failed, strict=True))
