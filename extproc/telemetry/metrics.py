"""Families of metrics, and a worker's hands on them in the table that all workers share.

A series is a name in the table's directory: its family and the values of its labels. Who may bring
a value decides how many series there can be; whatever clients choose must not become a label.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from extproc.counter_table import CounterTable, TableFullError

PREFIX = "metric:"
"""Of every name here, apart from what others keep in the same table."""

SEPARATOR = "\x1f"
"""Between family and labels' values (ASCII's unit separator), which therefore never hold it."""

MICRO = 1_000_000

_COMBINE: Mapping[str, Callable[[Iterable[int]], int]] = {"sum": sum, "max": max, "min": min}


@dataclass(frozen=True, slots=True)
class Counter:
    """A total that only grows. The name ends in `_total`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that each worker sets, and that is the sum, the largest or the smallest of all set.

    It is kept in whole `parts` of one.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    over_workers: Literal["sum", "max", "min"] = "sum"
    parts: int = 1

    def of(self, rows: Iterable[int]) -> float | None:
        """Its value, from the number in every row; None where no worker has set it.

        Rows hold one more than was set: 0 is a worker that has nothing to say.
        """
        said = [row - 1 for row in rows if row]
        return _COMBINE[self.over_workers](said) / self.parts if said else None


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long something took; `bounds` (seconds, ascending) are inclusive upper ends."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Columns: one for each bucket, the last without a bound, and the sum in µs."""
        return len(self.bounds) + 2


Family = Counter | Gauge | Histogram


def series_name(family: Family, values: Sequence[str]) -> str:
    """The series' name in the table. Raises ValueError for values that do not fit the labels."""
    if len(values) != len(family.labels):
        raise ValueError(f"{family.name} has the labels {family.labels}, not {len(values)} values")
    clean = (value.replace(SEPARATOR, " ") for value in values)
    return PREFIX + SEPARATOR.join((family.name, *clean))


def series_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Family name and labels' values; None for a name of somebody else's."""
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
        """_TableCounter so many more."""
        self._add(self._column, amount)


class _TableGauge:
    """One series of a gauge, in this worker's row."""

    __slots__ = ("_column", "_parts", "_set")

    def __init__(self, table: CounterTable, column: int, family: Gauge) -> None:
        self._set = table.set
        self._column = column
        self._parts = family.parts

    def set(self, value: float) -> None:
        """This worker's number is this now; 0 or more."""
        self._set(self._column, round(value * self._parts) + 1)

    def clear(self) -> None:
        """This worker has nothing more to say."""
        self._set(self._column, 0)


class _TableHistogram:
    """One series of a histogram, in this worker's row."""

    __slots__ = ("_add", "_bounds", "_column", "_sum")

    def __init__(self, table: CounterTable, column: int, family: Histogram) -> None:
        self._add = table.add
        self._bounds = tuple(bound * MICRO for bound in family.bounds)
        self._column = column
        self._sum = column + family.width - 1

    def observe(self, micros: float) -> None:
        """Something took so many microseconds."""
        self._add(self._column + bisect_left(self._bounds, micros))
        self._add(self._sum, int(micros))

    def observe_all(self, micros: Iterable[int]) -> None:
        """The same of many at once, which costs a third for each."""
        buckets: dict[int, int] = {}
        bounds, total = self._bounds, 0
        for each in micros:
            bucket = bisect_left(bounds, each)
            buckets[bucket] = buckets.get(bucket, 0) + 1
            total += each
        for bucket, count in buckets.items():
            self._add(self._column + bucket, count)
        self._add(self._sum, total)


class _NoSeries:
    """Stands for a series that the table has no room for: the rest goes on."""

    def add(self, amount: int = 1) -> None:
        """Not counted."""

    def set(self, value: float) -> None:
        """Not kept."""

    def clear(self) -> None:
        """Nothing was kept."""

    def observe(self, micros: float) -> None:
        """Not counted."""

    def observe_all(self, micros: Iterable[int]) -> None:
        """Not counted."""


_NO_SERIES = _NoSeries()

CounterSeries = _TableCounter | _NoSeries
GaugeSeries = _TableGauge | _NoSeries
HistogramSeries = _TableHistogram | _NoSeries

LOST = Counter(
    "sluice_metrics_lost_series_total", "Series the shared table had no room for; they are missing."
)


class Metrics:
    """Gives out the series that a worker writes; hold on to them where speed matters."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._lost = _TableCounter(table, table.column(series_name(LOST, ())))

    def count(self, family: Counter, *values: str) -> CounterSeries:
        """The series with these labels."""
        column = self._column(family, values, 1)
        return _NO_SERIES if column is None else _TableCounter(self._table, column)

    def level(self, family: Gauge, *values: str) -> GaugeSeries:
        """The series with these labels."""
        column = self._column(family, values, 1)
        return _NO_SERIES if column is None else _TableGauge(self._table, column, family)

    def timings(self, family: Histogram, *values: str) -> HistogramSeries:
        """The series with these labels."""
        column = self._column(family, values, family.width)
        return _NO_SERIES if column is None else _TableHistogram(self._table, column, family)

    def clear(self, gauges: Iterable[Gauge]) -> None:
        """Forget what the worker that had this row before has set."""
        names = {gauge.name for gauge in gauges}
        for name, (column, _) in self._table.names().items():
            series = series_of(name)
            if series is not None and series[0] in names:
                self._table.set(column, 0)

    def _column(self, family: Family, values: tuple[str, ...], width: int) -> int | None:
        try:
            return self._table.column(series_name(family, values), width)
        except TableFullError:
            self._lost.add()
            return None
