"""What other parts count as plain integers arrives in the table once, whoever counts it next."""

from collections import Counter as Counts
from pathlib import Path

from extproc.auth import Authenticator, CredentialsError
from extproc.counter_table import CounterTable, create
from extproc.telemetry.metrics import LOST_SERIES, Counter, Gauge, Metrics, series_name
from extproc.telemetry.publisher import MetricsPublisher, samples_by_label
from sluice.config import Auth

FAMILY = Counter("test_total", "A counter.", ("kind",))
GAUGE = Gauge("test", "A gauge.", ("kind",))


def test_only_what_was_added_is_carried_over(tmp_path: Path) -> None:
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
    # The one before is carried over for the last time, the next begins at zero.
    publisher.add_counters("source", lambda: samples_by_label(FAMILY, second))
    publisher.publish()
    assert (total("a"), total("b")) == (6, 1)
    second["a"] = 1  # made anew
    publisher.publish()
    assert total("a") == 7


def test_what_is_no_longer_there_is_no_longer_shown(tmp_path: Path) -> None:
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


def test_a_gauge_that_finds_no_room_is_lost_once(tmp_path: Path) -> None:
    create(tmp_path / "counters", 1, 1)
    table = CounterTable(tmp_path / "counters", 0)
    publisher = MetricsPublisher(Metrics(table))
    publisher.add_gauges(lambda: [(GAUGE, ("a",), 1.0)])
    publisher.publish()
    publisher.publish()
    assert table.total(table.column(series_name(LOST_SERIES, ()))) == 1


def test_an_authenticator_tells_tokens_it_knew_from_those_it_had_to_verify() -> None:
    authenticator = Authenticator(Auth())
    for _ in range(2):
        try:
            authenticator.identify({"authorization": b"Bearer unknown"}, 0.0)
        except CredentialsError:
            continue
    assert (authenticator.hits, authenticator.misses) == (0, 2)
    authenticator.identify({}, 0.0)
    assert (authenticator.hits, authenticator.misses) == (0, 2)
