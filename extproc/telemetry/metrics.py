"""Metric families, and the series that a worker writes to the shared counter table.

The name of a series in the table consists of the family's name and the label values. The number of
possible label values bounds the number of series, so text that clients choose must never become a
label value.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from extproc.counter_table import CounterTable, TableFullError

PREFIX = "metric:"
"""Prefix of every series name. It separates metrics from other data in the same table."""

SEPARATOR = "\x1f"
"""Separates the family's name and the label values in a series name (ASCII unit separator)."""

MICROS_PER_SECOND = 1_000_000

_AGGREGATIONS: Mapping[str, Callable[[Iterable[int]], int]] = {"sum": sum, "max": max, "min": min}


@dataclass(frozen=True, slots=True)
class Counter:
    """A total that only grows. The name ends in `_total`.

    The table stores integers: an amount is stored as a multiple of 1 / `scale`.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    scale: int = 1


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that each worker sets. `aggregation` combines the numbers of all workers.

    The table stores integers: a value is stored as a multiple of 1 / `scale`.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    aggregation: Literal["sum", "max", "min"] = "sum"
    scale: int = 1

    def aggregate(self, rows: Iterable[int]) -> float | None:
        """Return the value for the numbers in all rows; None if no worker has set the gauge.

        A row stores the value plus one, because 0 means that the worker has not set the gauge.
        """
        values = [row - 1 for row in rows if row]
        return _AGGREGATIONS[self.aggregation](values) / self.scale if values else None


@dataclass(frozen=True, slots=True)
class Histogram:
    """A distribution of durations. `bounds` are inclusive upper bounds in seconds, ascending."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Number of columns: one per bucket, one for the +Inf bucket, one for the sum in µs."""
        return len(self.bounds) + 2


Family = Counter | Gauge | Histogram


def series_name(family: Family, values: Sequence[str]) -> str:
    """Return the name of a series in the table.

    Raises ValueError if the number of values differs from the number of labels.
    """
    if len(values) != len(family.labels):
        raise ValueError(f"{family.name} has the labels {family.labels}, not {len(values)} values")
    clean = (value.replace(SEPARATOR, " ") for value in values)
    return PREFIX + SEPARATOR.join((family.name, *clean))


def parse_series_name(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the family's name and the label values; None if the name is not that of a series."""
    if not name.startswith(PREFIX):
        return None
    family, *values = name.removeprefix(PREFIX).split(SEPARATOR)
    return family, tuple(values)


class _TableCounter:
    """One series of a counter, in this worker's row."""

    __slots__ = ("_add", "_column")

    def __init__(self, table: CounterTable, column: int) -> None:
        self._add = table.add
        self._column = column

    def add(self, amount: int = 1) -> None:
        """Increase the counter."""
        self._add(self._column, amount)


class _TableGauge:
    """One series of a gauge, in this worker's row."""

    __slots__ = ("_column", "_scale", "_set")

    def __init__(self, table: CounterTable, column: int, family: Gauge) -> None:
        self._set = table.set
        self._column = column
        self._scale = family.scale

    def set(self, value: float) -> None:
        """Set this worker's value, which must not be negative."""
        self._set(self._column, round(value * self._scale) + 1)

    def clear(self) -> None:
        """Remove this worker's value."""
        self._set(self._column, 0)


class _TableHistogram:
    """One series of a histogram, in this worker's row."""

    __slots__ = ("_add", "_bounds", "_column", "_sum")

    def __init__(self, table: CounterTable, column: int, family: Histogram) -> None:
        self._add = table.add
        self._bounds = tuple(bound * MICROS_PER_SECOND for bound in family.bounds)
        self._column = column
        self._sum = column + family.width - 1

    def observe(self, micros: float) -> None:
        """Record one duration in microseconds."""
        self._add(self._column + bisect_left(self._bounds, micros))
        self._add(self._sum, int(micros))

    def observe_many(self, micros: Iterable[int]) -> None:
        """Record several durations. This is cheaper than one call for each."""
        buckets: dict[int, int] = {}
        bounds, total = self._bounds, 0
        for duration in micros:
            bucket = bisect_left(bounds, duration)
            buckets[bucket] = buckets.get(bucket, 0) + 1
            total += duration
        for bucket, count in buckets.items():
            self._add(self._column + bucket, count)
        self._add(self._sum, total)


class _NoSeries:
    """Replaces a series for which the table has no room. Its methods do nothing."""

    def add(self, amount: int = 1) -> None:
        """Do nothing."""

    def set(self, value: float) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""

    def observe(self, micros: float) -> None:
        """Do nothing."""

    def observe_many(self, micros: Iterable[int]) -> None:
        """Do nothing."""


_NO_SERIES = _NoSeries()

CounterSeries = _TableCounter | _NoSeries
GaugeSeries = _TableGauge | _NoSeries
HistogramSeries = _TableHistogram | _NoSeries

LOST_SERIES = Counter(
    "sluice_metrics_lost_series_total",
    "Series that are missing because the shared table is full.",
)


class Metrics:
    """Creates the series that one worker writes. Callers on the hot path cache their series."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._lost = _TableCounter(table, table.column(series_name(LOST_SERIES, ())))

    def counter(self, family: Counter, *values: str) -> CounterSeries:
        """Return the counter with these label values."""
        column = self._column(family, values, 1)
        return _NO_SERIES if column is None else _TableCounter(self._table, column)

    def gauge(self, family: Gauge, *values: str) -> GaugeSeries:
        """Return the gauge with these label values."""
        column = self._column(family, values, 1)
        return _NO_SERIES if column is None else _TableGauge(self._table, column, family)

    def histogram(self, family: Histogram, *values: str) -> HistogramSeries:
        """Return the histogram with these label values."""
        column = self._column(family, values, family.width)
        return _NO_SERIES if column is None else _TableHistogram(self._table, column, family)

    def clear_gauges(self, gauges: Iterable[Gauge]) -> None:
        """Remove the values that the previous worker set in this row."""
        families = {gauge.name for gauge in gauges}
        for name, (column, _) in self._table.names().items():
            series = parse_series_name(name)
            if series is not None and series[0] in families:
                self._table.set(column, 0)

    def _column(self, family: Family, values: tuple[str, ...], width: int) -> int | None:
        try:
            return self._table.column(series_name(family, values), width)
        except TableFullError:
            self._lost.add()
            return None
