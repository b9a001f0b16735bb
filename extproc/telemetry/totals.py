"""Carries totals that other parts count as plain integers over into the shared table.

Counting in an attribute costs them nothing; what a killed worker had not carried over is lost with
it, at most an interval's worth.
"""

from collections.abc import Callable, Iterable, Mapping

from extproc.telemetry.metrics import Counter, Gauge, GaugeSeries, Metrics

Total = tuple[Counter, tuple[str, ...], int]
"""Family, labels' values, and how many there were since the source began."""

Source = Callable[[], Iterable[Total]]

Reading = tuple[Gauge, tuple[str, ...], float]
"""Family, labels' values, and what it is now."""

Gauges = Callable[[], Iterable[Reading]]


class Totals:
    """Publishes what has been added since the last time, of every source."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._sources: dict[object, Source] = {}
        self._published: dict[object, dict[tuple[str, tuple[str, ...]], int]] = {}
        self._gauges: dict[Gauges, dict[tuple[str, tuple[str, ...]], GaugeSeries]] = {}

    def follow(self, key: object, source: Source) -> None:
        """Publish this source from now on, in place of the one with the same key.

        A source starts from zero; the one before is published for the last time.
        """
        self._publish(key)
        self._sources[key] = source
        self._published[key] = {}

    def show(self, gauges: Gauges) -> None:
        """Publish what these are now and whenever totals are published; no longer what is gone."""
        self._gauges[gauges] = {}
        self._show(gauges)

    def publish(self) -> None:
        """Carry everything over."""
        for key in self._sources:
            self._publish(key)
        for gauges in self._gauges:
            self._show(gauges)

    def _show(self, gauges: Gauges) -> None:
        before, shown = self._gauges[gauges], {}
        for family, values, value in gauges():
            series = (family.name, values)
            level = before.pop(series, None) or self._metrics.level(family, *values)
            level.set(value)
            shown[series] = level
        for level in before.values():
            level.clear()
        self._gauges[gauges] = shown

    def _publish(self, key: object) -> None:
        source = self._sources.get(key)
        if source is None:
            return
        published = self._published[key]
        for family, values, total in source():
            series = (family.name, values)
            before = published.get(series, 0)
            # Less than before: what counts has been made anew, and began at zero.
            more = total - before if total >= before else total
            if more:
                self._metrics.count(family, *values).add(more)
            published[series] = total


def by_label(family: Counter, totals: Mapping[str, int]) -> list[Total]:
    """Totals that differ in the family's one label."""
    return [(family, (value,), total) for value, total in totals.items()]
