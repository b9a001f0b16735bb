"""Without requests, every worker learns of a state that changes, and looks at few versions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.breaker import Breaker, BreakerState
from extproc.breaker.news import RING, News
from extproc.counter_table import CounterTable, create
from sluice.config.breaker import BreakerConfig

CONFIG = BreakerConfig(window=2.0, buckets=4)
VERSION = "model/v1"
CLUSTERS = ("a/v1", "b/v1")
NOW = 1000.0


class CountingTable(CounterTable):
    """Counts how often somebody reads the table."""

    reads = 0

    def block(self, row: int, column: int, width: int) -> list[int]:
        self.reads += 1
        return super().block(row, column, width)

    def values(self, column: int) -> list[int]:
        self.reads += 1
        return super().values(column)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[list[CountingTable]]:
    create(tmp_path / "counters", rows=2, columns=60_000)
    found = [CountingTable(tmp_path / "counters", row) for row in range(2)]
    yield found
    for table in found:
        table.close()


@pytest.fixture
def workers(tables: list[CountingTable]) -> list[Breaker]:
    found = [Breaker(table, {VERSION: CONFIG}) for table in tables]
    for worker in found:
        worker.update(NOW)
    return found


def test_reports_to_one_worker_open_the_breaker_of_the_others(workers: list[Breaker]) -> None:
    workers[0].record(NOW, VERSION, ok=False, count=30)
    for worker in workers:
        worker.update(NOW)
        assert worker.not_closed == {VERSION}


def test_reports_to_several_workers_count_together(workers: list[Breaker]) -> None:
    for worker in workers:
        worker.record(NOW, VERSION, ok=False, count=CONFIG.min_volume // 2)
    workers[1].update(NOW)
    assert workers[1].not_closed == {VERSION}
    workers[0].update(NOW)
    assert workers[0].not_closed == {VERSION}


def test_successes_elsewhere_complete_the_minimum_volume(workers: list[Breaker]) -> None:
    workers[0].record(NOW, VERSION, ok=False, count=CONFIG.min_volume // 2)
    for worker in workers:
        worker.update(NOW)
        assert worker.not_closed == set()
    workers[1].record(NOW, VERSION, ok=True, count=CONFIG.min_volume // 2)
    for worker in reversed(workers):
        worker.update(NOW)
        assert worker.not_closed == {VERSION}


def test_successes_elsewhere_close_the_breaker(workers: list[Breaker]) -> None:
    workers[0].record(NOW, VERSION, ok=False, count=30)
    for worker in workers:
        worker.update(NOW)
    later = NOW + 1.1
    workers[1].record(later, VERSION, ok=True, count=CONFIG.probe_successes)
    workers[1].update(later)
    workers[0].update(later)
    assert [worker.not_closed for worker in workers] == [set(), set()]


def test_a_reduced_breaker_closes_when_its_failures_are_older_than_the_window(
    workers: list[Breaker],
) -> None:
    workers[0].record(NOW, VERSION, ok=False, count=20)
    workers[1].record(NOW, VERSION, ok=True, count=80)
    for time, expected in ((NOW, {VERSION}), (NOW + 1, {VERSION}), (NOW + 2.5, set())):
        for worker in workers:
            worker.update(time)
            assert worker.not_closed == expected


def test_a_breaker_opens_when_successes_are_older_than_the_window(workers: list[Breaker]) -> None:
    workers[0].record(NOW, VERSION, ok=True, count=150)
    workers[0].record(NOW + 1, VERSION, ok=False, count=10)
    workers[1].record(NOW + 1, VERSION, ok=True, count=10)
    for time, expected in ((NOW + 1, set()), (NOW + 2.2, {VERSION})):
        for worker in workers:
            worker.update(time)
            assert worker.not_closed == expected


def test_changes_are_announced_once(workers: list[Breaker]) -> None:
    announced: list[set[str]] = []
    workers[1].on_change(lambda: announced.append(set(workers[1].not_closed)))
    workers[0].record(NOW, VERSION, ok=False, count=30)
    for time in (NOW, NOW + 0.1, NOW + 0.2):
        workers[0].update(time)
        workers[1].update(time)
    assert announced == [{VERSION}]
    workers[1].configure({})
    assert announced == [{VERSION}, set()]


def test_a_changed_threshold_counts_at_the_next_update(workers: list[Breaker]) -> None:
    workers[0].record(NOW, VERSION, ok=False, count=30)
    for worker in workers:
        worker.update(NOW)
        worker.configure({VERSION: CONFIG.model_copy(update={"retry_after": 2.0})})
        assert worker.not_closed == {VERSION}
        worker.update(NOW)
        assert worker.not_closed == {VERSION}


def test_versions_without_failures_are_not_looked_at(tables: list[CountingTable]) -> None:
    clusters = [f"model-{number}/v1" for number in range(1000)]
    workers = [Breaker(table, dict.fromkeys(clusters, CONFIG)) for table in tables]
    for worker in workers:
        worker.update(NOW)
    for cluster in clusters:
        workers[0].record(NOW, cluster, ok=True)
    workers[0].record(NOW, clusters[500], ok=False, count=30)
    for worker, table in zip(workers, tables, strict=True):
        table.reads = 0
        worker.update(NOW + 0.1)
        assert worker.not_closed == {clusters[500]}
        assert table.reads < 20
        assert worker.admit(NOW + 0.2, clusters[0], 0.5).admitted
        assert table.reads < 20


def test_more_news_than_the_ring_holds_are_not_missed(tables: list[CountingTable]) -> None:
    clusters = {f"model-{number}/v1" for number in range(3 * RING)}
    workers = [Breaker(table, dict.fromkeys(clusters, CONFIG)) for table in tables]
    for worker in workers:
        worker.update(NOW)
    for cluster in clusters:
        workers[0].record(NOW, cluster, ok=False, count=30)
    for worker in workers:
        worker.update(NOW)
        assert worker.not_closed == clusters


def test_news_are_read_once_and_only_by_the_others(tables: list[CountingTable]) -> None:
    own, other = (News(table) for table in tables)
    for item in (7, 8):
        own.add(item)
    assert list(own.read() or ()) == []
    assert list(other.read() or ()) == [7, 8]
    assert list(other.read() or ()) == []
    for item in range(RING):
        own.add(item)
    assert other.read() is None
    own.add(9)
    assert list(other.read() or ()) == [9]


steps = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.01, 0.3, 0.6, 2.5)),
        st.integers(0, 1),
        st.sampled_from(("a/v1", "b/v1")),
        st.booleans(),
        st.integers(1, 25),
    ),
    max_size=25,
)


@contextmanager
def two_workers() -> Iterator[list[Breaker]]:
    """The breakers of two workers, which share a table."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "counters"
        create(path, rows=2, columns=500)
        tables = [CounterTable(path, row) for row in range(2)]
        yield [Breaker(table, dict.fromkeys(CLUSTERS, CONFIG)) for table in tables]
        for table in tables:
            table.close()


def recorded(
    workers: list[Breaker], found: list[tuple[float, int, str, bool, int]]
) -> Iterator[float]:
    """Record one step after the other. Yields the time of each."""
    now = NOW
    for seconds, worker, cluster, ok, count in found:
        now += seconds
        workers[worker].record(now, cluster, ok, count)
        yield now


@given(steps)
def test_an_update_finds_every_change_that_an_evaluation_of_all_versions_finds(
    found: list[tuple[float, int, str, bool, int]],
) -> None:
    with two_workers() as workers:
        now = NOW
        for now in recorded(workers, found):
            for each in (*workers, workers[0]):
                each.update(now)
        updated = [set(each.not_closed) for each in workers]
        for each in workers:
            for cluster in CLUSTERS:
                each.summary(now, cluster)
        assert [each.not_closed for each in workers] == updated


@given(steps)
def test_the_active_breakers_of_all_workers_are_those_that_an_evaluation_of_all_finds(
    found: list[tuple[float, int, str, bool, int]],
) -> None:
    with two_workers() as workers:
        for now in recorded(workers, found):
            active = [each.active(now) for each in (*workers, workers[0])]
            for name in CLUSTERS:
                expected = workers[0].summary(now, name)
                assert expected is not None
                shown = [each[name] for each in active[1:] if name in each]
                idle = not expected.volume and expected.state is BreakerState.CLOSED
                assert max((each.volume for each in shown), default=0) == expected.volume
                assert max((each.state for each in shown), default=0) == expected.state
                assert bool(shown) is not idle


def test_idle_breakers_are_not_read(tmp_path: Path) -> None:
    create(tmp_path / "many", rows=2, columns=60_000)
    table = CountingTable(tmp_path / "many", 0)
    worker = Breaker(table, {f"m{number}/v1": CONFIG for number in range(1000)})
    assert worker.active(NOW) == {}
    worker.record(NOW, "m7/v1", ok=True, count=3)
    table.reads = 0
    assert worker.active(NOW).keys() == {"m7/v1"}
    assert table.reads < 20
    assert worker.active(NOW + 10) == {}
    table.reads = 0
    assert worker.active(NOW + 10) == {}
    assert table.reads < 10
    table.close()


def test_a_worker_shows_the_requests_that_were_counted_before_its_start(
    tables: list[CountingTable],
) -> None:
    first, second = (Breaker(table, {VERSION: CONFIG}) for table in tables)
    first.record(NOW, VERSION, ok=True, count=5)
    assert second.active(NOW)[VERSION].volume == 5
