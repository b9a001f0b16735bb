"""The publisher copies the numbers of its sources to the shared table."""

from collections import Counter as Counts
from pathlib import Path

from extproc.counter_table import CounterTable, create
from extproc.telemetry.metrics import LOST_SERIES, Counter, Gauge, Metrics, series_name
from extproc.telemetry.publisher import MetricsPublisher, samples_by_label

FAMILY = Counter("test_total", "A counter.", ("kind",))
GAUGE = Gauge("test", "A gauge.", ("kind",))


def test_only_the_increase_of_a_counter_is_added(tmp_path: Path) -> None:
    create(tmp_path / "counters", 1, 16)
    table = CounterTable(tmp_path / "counters", 0)
    publisher = MetricsPublisher(Metrics(table))

    def total(kind: str) -> int:
        return table.total(table.column(series_name(FAMILY, (kind,))))

    first, second = Counts({"a": 3}), Counts({"a": 2, "b": 1})
    publisher.add_counters("source", lambda: samples_by_label(FAMILY, first))
    publisher.publish()
    publisher.publish()
    assert total("a") == 3
    first["a"] += 1
    # The previous source is published once more. The new one starts at zero.
    publisher.add_counters("source", lambda: samples_by_label(FAMILY, second))
    publisher.publish()
    assert (total("a"), total("b")) == (6, 1)
    second["a"] = 1  # a smaller total: the component was replaced
    publisher.publish()
    assert total("a") == 7


def test_a_counter_is_in_the_table_before_its_first_event(tmp_path: Path) -> None:
    create(tmp_path / "counters", 1, 16)
    table = CounterTable(tmp_path / "counters", 0)
    publisher = MetricsPublisher(Metrics(table))
    publisher.add_counters("source", lambda: [(FAMILY, ("a",), 0)])
    assert series_name(FAMILY, ("a",)) not in table.names()
    publisher.publish()
    assert series_name(FAMILY, ("a",)) in table.names()


def test_a_gauge_that_its_source_omits_is_removed(tmp_path: Path) -> None:
    create(tmp_path / "counters", 1, 16)
    table = CounterTable(tmp_path / "counters", 0)
    publisher = MetricsPublisher(Metrics(table))
    there = {"a": 1.0, "b": 2.0}

    def shown(kind: str) -> float | None:
        return GAUGE.aggregate(table.values(table.column(series_name(GAUGE, (kind,)))))

    publisher.add_gauges(lambda: [(GAUGE, (kind,), value) for kind, value in there.items()])
    assert (shown("a"), shown("b")) == (1, 2)
    del there["a"]
    there["b"] = 3
    publisher.publish()
    assert (shown("a"), shown("b")) == (None, 3)
    there["a"] = 4
    publisher.publish()
    assert shown("a") == 4


def test_a_gauge_without_room_in_the_table_is_counted_as_lost_once(tmp_path: Path) -> None:
    create(tmp_path / "counters", 1, 1)
    table = CounterTable(tmp_path / "counters", 0)
    publisher = MetricsPublisher(Metrics(table))
    publisher.add_gauges(lambda: [(GAUGE, ("a",), 1.0)])
    publisher.publish()
    publisher.publish()
    assert table.total(table.column(series_name(LOST_SERIES, ()))) == 1
