"""Publishes the plain numbers of other components as metrics in the shared table.

A component on the hot path counts in an integer attribute and never touches the table. If a worker
is killed, the counts since the last publication are lost.
"""

from collections.abc import Callable, Iterable, Mapping

from extproc.telemetry.metrics import Counter, Gauge, GaugeSeries, Metrics

CounterSample = tuple[Counter, tuple[str, ...], int]
"""Family, label values, and the total since the source was created."""

CounterSource = Callable[[], Iterable[CounterSample]]

GaugeSample = tuple[Gauge, tuple[str, ...], float]
"""Family, label values, and the current value."""

GaugeSource = Callable[[], Iterable[GaugeSample]]

_SeriesKey = tuple[str, tuple[str, ...]]
"""Family name and label values."""


class MetricsPublisher:
    """Copies the numbers of its sources to the shared table at each call of `publish`.

    A counter is in the table from the first publication, also if it is 0: Prometheus sees the first
    event only as an increase of a series that it knows.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counter_sources: dict[object, CounterSource] = {}
        self._published: dict[object, dict[_SeriesKey, int]] = {}
        self._gauges: dict[GaugeSource, dict[_SeriesKey, GaugeSeries]] = {}
        self._others: list[Callable[[], None]] = []

    def add_counters(self, key: object, source: CounterSource) -> None:
        """Add a source of counters. It replaces the source with the same key.

        The previous source is published once more. The new source starts at zero.
        """
        self._publish_counters(key)
        self._counter_sources[key] = source
        self._published[key] = {}

    def add_gauges(self, source: GaugeSource) -> None:
        """Add a source of gauges and publish it. A gauge that the source later omits is removed."""
        self._gauges[source] = {}
        self._publish_gauges(source)

    def add(self, publish: Callable[[], None]) -> None:
        """Add a component that publishes what has changed by itself, and publish it."""
        self._others.append(publish)
        publish()

    def publish(self) -> None:
        """Publish all sources."""
        for key in self._counter_sources:
            self._publish_counters(key)
        for source in self._gauges:
            self._publish_gauges(source)
        for publish in self._others:
            publish()

    def _publish_gauges(self, source: GaugeSource) -> None:
        previous, current = self._gauges[source], {}
        for family, values, value in source():
            key = (family.name, values)
            gauge = previous.pop(key, None) or self._metrics.gauge(family, *values)
            gauge.set(value)
            current[key] = gauge
        for gauge in previous.values():
            gauge.clear()
        self._gauges[source] = current

    def _publish_counters(self, key: object) -> None:
        source = self._counter_sources.get(key)
        if source is None:
            return
        published = self._published[key]
        for family, values, total in source():
            series = (family.name, values)
            previous = published.get(series, 0)
            # A smaller total means that the component was replaced and counts from zero again.
            increase = total - previous if total >= previous else total
            if increase or series not in published:
                self._metrics.counter(family, *values).add(increase)
            published[series] = total


def samples_by_label(family: Counter, totals: Mapping[str, int]) -> list[CounterSample]:
    """Return one sample for each value of the family's only label."""
    return [(family, (value,), total) for value, total in totals.items()]
