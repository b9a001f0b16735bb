"""The shared table in Prometheus' words: the sums over all workers, read when asked."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from extproc.counter_table import CounterTable
from extproc.telemetry.metrics import MICRO, Counter, Family, Gauge, Histogram, series_of

Series = tuple[tuple[str, ...], int]
"""Values of the labels, and the first column."""


def series_in(table: CounterTable, families: Iterable[Family]) -> dict[str, list[Series]]:
    """Every series that a table has of these families, by the family's name."""
    found: dict[str, list[Series]] = {family.name: [] for family in families}
    for name, (column, _) in table.names().items():
        series = series_of(name)
        if series is not None and series[0] in found:
            found[series[0]].append((series[1], column))
    return found


class TableCollector(Collector):
    """Reads a table that others write. Families without a series are left out."""

    def __init__(self, table: CounterTable, families: Sequence[Family]) -> None:
        self._table = table
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        found = series_in(self._table, self._families)
        for family in self._families:
            metric = self._metric(family, found[family.name])
            if metric.samples:
                yield metric

    def _metric(self, family: Family, series: list[Series]) -> Metric:
        metric: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
        match family:
            case Counter():
                metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
                for values, column in series:
                    metric.add_metric(values, self._table.total(column))
            case Gauge():
                metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
                for values, column in series:
                    value = family.of(self._table.values(column))
                    if value is not None:
                        metric.add_metric(values, value)
            case Histogram():
                metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
                for values, column in series:
                    *counts, micros = self._sums(column, family.width)
                    metric.add_metric(values, _buckets(family, counts), micros / MICRO)
        return metric

    def _sums(self, column: int, width: int) -> list[int]:
        rows = (self._table.block(row, column, width) for row in range(self._table.rows))
        return [sum(values) for values in zip(*rows, strict=True)]


def _buckets(family: Histogram, counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them, the last without a bound."""
    bounds = [*map(str, family.bounds), "+Inf"]
    return list(zip(bounds, map(float, _running(counts)), strict=True))


def _running(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total
