"""Metrics are aggregated over the workers, and survive the replacement of a worker."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from extproc.counter_table import CounterTable, create
from extproc.telemetry.exposition import TableCollector
from extproc.telemetry.metrics import (
    LOST_SERIES,
    Counter,
    Family,
    Gauge,
    Histogram,
    Metrics,
    series_name,
)

ROWS = 3
COUNTER = Counter("test_total", "A counter.", ("kind",))
LARGEST = Gauge("test_largest", "A gauge.", aggregation="max")
SUMMED = Gauge("test_summed", "Another gauge.")
SECONDS = Histogram("test_seconds", "A histogram.", ("kind",), (0.001, 0.01))
SMALLEST = Gauge("test_smallest", "A third.", aggregation="min")
RATIO = Gauge("test_ratio", "A fraction.", aggregation="max", scale=1000)
FAMILIES = (COUNTER, LARGEST, SUMMED, SMALLEST, RATIO, SECONDS, LOST_SERIES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "counters"
    create(path, ROWS, 64)
    return path


def exposed(path: Path, *families: Family) -> dict[str, float]:
    """The samples of these families (default: all), by name and labels in Prometheus' format."""
    registry = CollectorRegistry()
    registry.register(TableCollector(CounterTable(path), families or FAMILIES))
    text = generate_latest(registry).decode()
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_series_are_aggregated_over_the_workers(path: Path) -> None:
    for row in range(ROWS):
        metrics = Metrics(CounterTable(path, row))
        metrics.counter(COUNTER, "a").add(row + 1)
        for gauge in (SMALLEST, LARGEST, SUMMED):
            metrics.gauge(gauge).set(10 * (row + 1))
        for micros in (1000, 1001, 50_000):
            metrics.histogram(SECONDS, "a").observe(micros)
    found = exposed(path)
    assert found["test_total kind=a"] == 6
    assert found["test_smallest"] == 10
    assert found["test_largest"] == 30
    assert found["test_summed"] == 60
    assert found["test_seconds_bucket kind=a le=0.001"] == 3
    assert found["test_seconds_bucket kind=a le=0.01"] == 6
    assert found["test_seconds_bucket kind=a le=+Inf"] == 9
    assert found["test_seconds_count kind=a"] == 9
    assert found["test_seconds_sum kind=a"] == pytest.approx(3 * 0.052001)


def test_a_new_worker_continues_the_counters_of_the_previous_one(path: Path) -> None:
    for _ in range(3):
        table = CounterTable(path, 1)
        Metrics(table).counter(COUNTER, "a").add(5)
        table.close()
    assert exposed(path)["test_total kind=a"] == 15


def test_a_gauge_aggregates_only_the_workers_that_have_set_it(path: Path) -> None:
    one, other = (Metrics(CounterTable(path, row)) for row in (0, 1))
    for metrics in (one, other):
        metrics.gauge(SMALLEST).clear()
    assert exposed(path, SMALLEST) == {}
    one.gauge(SMALLEST).set(7)
    assert exposed(path, SMALLEST) == {"test_smallest": 7}
    other.gauge(SMALLEST).set(0)
    assert exposed(path, SMALLEST) == {"test_smallest": 0}
    other.gauge(SMALLEST).clear()
    assert exposed(path, SMALLEST) == {"test_smallest": 7}


@given(st.floats(0, 1))
def test_a_gauge_with_a_scale_has_fractions(value: float) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "counters"
        create(path, 1, 16)
        Metrics(CounterTable(path, 0)).gauge(RATIO).set(value)
        assert exposed(path)["test_ratio"] == pytest.approx(value, abs=0.0005)


def test_a_new_worker_can_clear_the_gauges_of_the_previous_one(path: Path) -> None:
    table = CounterTable(path, 1)
    before = Metrics(table)
    before.gauge(SUMMED).set(5)
    before.counter(COUNTER, "a").add(5)
    table.close()
    Metrics(CounterTable(path, 1)).clear_gauges([SUMMED])
    assert exposed(path, SUMMED, COUNTER) == {"test_total kind=a": 5}


def test_other_names_in_the_table_are_not_metrics(path: Path) -> None:
    table = CounterTable(path, 0)
    table.add(table.column("breaker:a/v1", 3))
    assert exposed(path) == {}


def test_series_that_do_not_fit_in_the_table_are_counted_as_lost(path: Path) -> None:
    metrics = Metrics(CounterTable(path, 0))
    kept = metrics.counter(COUNTER, "kept")
    for number in range(100):
        metrics.counter(COUNTER, str(number)).add()
    kept.add()
    found = exposed(path)
    assert found["test_total kind=kept"] == 1
    assert found["sluice_metrics_lost_series_total"] > 0
    assert found["sluice_metrics_lost_series_total"] == 100 - sum(
        name.startswith("test_total") and not name.endswith("kept") for name in found
    )


def test_a_series_needs_a_value_for_each_label() -> None:
    with pytest.raises(ValueError, match="test_total"):
        series_name(COUNTER, ())
