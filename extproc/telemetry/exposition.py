"""Reads the shared table as Prometheus metrics, aggregated over all workers."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from extproc.counter_table import CounterTable
from extproc.telemetry.metrics import (
    MICROS_PER_SECOND,
    Counter,
    Family,
    Gauge,
    Histogram,
    parse_series_name,
)

SeriesColumn = tuple[tuple[str, ...], int]
"""Label values and first column of a series."""


def find_series(table: CounterTable, families: Iterable[Family]) -> dict[str, list[SeriesColumn]]:
    """Return all series of these families in the table, by family name."""
    found: dict[str, list[SeriesColumn]] = {family.name: [] for family in families}
    for name, (column, _) in table.names().items():
        series = parse_series_name(name)
        if series is not None and series[0] in found:
            found[series[0]].append((series[1], column))
    return found


class TableCollector(Collector):
    """Collects the metrics of all workers. It omits families without a series."""

    def __init__(self, table: CounterTable, families: Sequence[Family]) -> None:
        self._table = table
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the current metrics."""
        found = find_series(self._table, self._families)
        for family in self._families:
            metric = self._metric(family, found[family.name])
            if metric.samples:
                yield metric

    def _metric(self, family: Family, series: list[SeriesColumn]) -> Metric:
        metric: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
        match family:
            case Counter():
                metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
                for values, column in series:
                    metric.add_metric(values, self._table.total(column) / family.scale)
            case Gauge():
                metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
                for values, column in series:
                    value = family.aggregate(self._table.values(column))
                    if value is not None:
                        metric.add_metric(values, value)
            case Histogram():
                metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
                for values, column in series:
                    *counts, micros = self._sums(column, family.width)
                    metric.add_metric(values, _buckets(family, counts), micros / MICROS_PER_SECOND)
        return metric

    def _sums(self, column: int, width: int) -> list[int]:
        rows = (self._table.block(row, column, width) for row in range(self._table.rows))
        return [sum(values) for values in zip(*rows, strict=True)]


def _buckets(family: Histogram, counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return upper bounds with cumulative counts, as Prometheus expects them."""
    bounds = [*map(str, family.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(counts)), strict=True))
