"""A breaker opens for a version that fails, closes when it recovers, and ignores latency."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.breaker import Breaker, BreakerState, BreakerSummary
from extproc.breaker.window import error_rate, recovered, state_from_window
from extproc.counter_table import CounterTable, create
from sluice.config.breaker import BreakerConfig

CONFIG = BreakerConfig()
VERSION = "model/v1"


def summary(breaker: Breaker, now: float, cluster: str = VERSION) -> BreakerSummary:
    found = breaker.summary(now, cluster)
    assert found is not None
    return found


@dataclass
class Fleet:
    """Workers that share one table, and a version that fails a share of its requests."""

    path: Path
    now: float = 1000.0
    random: Random = field(default_factory=lambda: Random(7))
    latency: float = 0.0

    def __post_init__(self) -> None:
        self.tables = [CounterTable(self.path, row) for row in range(2)]
        self.workers = [Breaker(table, {VERSION: CONFIG}) for table in self.tables]
        self.pending: list[tuple[float, bool]] = []

    def serve(self, seconds: float, per_second: int, failing: float) -> list[bool]:
        """Send requests to random workers. A random worker gets the report and records it."""
        admitted = []
        for _ in range(int(seconds * per_second)):
            self.now += 1 / per_second
            verdict = self.random.choice(self.workers).admit(
                self.now, VERSION, self.random.random()
            )
            admitted.append(verdict.admitted)
            if verdict.admitted:
                ok = self.random.random() >= failing
                self.pending.append((self.now + self.latency, ok))
            while self.pending and self.pending[0][0] <= self.now:
                self.random.choice(self.workers).record(self.now, VERSION, self.pending.pop(0)[1])
        return admitted

    def states(self) -> set[BreakerState]:
        return {summary(worker, self.now).state for worker in self.workers}

    def until(self, state: BreakerState, per_second: int, failing: float) -> float:
        """Serve until all workers have the state. Returns the seconds that this took."""
        started = self.now
        while self.states() != {state}:
            assert self.now - started < 60
            self.serve(0.05, per_second, failing)
        return self.now - started


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    create(tmp_path / "counters", rows=2, columns=1000)
    found = Fleet(tmp_path / "counters")
    yield found
    for table in found.tables:
        table.close()


@pytest.mark.parametrize("per_second", [150, 1000])
def test_a_version_that_starts_to_fail_half_its_requests_is_refused_within_2_seconds(
    fleet: Fleet, per_second: int
) -> None:
    fleet.serve(20, per_second, failing=0.0)
    assert fleet.until(BreakerState.OPEN, per_second, failing=0.5) <= 2.0


def test_a_version_that_fails_from_the_start_is_refused_at_the_minimum_volume(
    fleet: Fleet,
) -> None:
    fleet.serve(0.19, 100, failing=1.0)
    assert fleet.states() == {BreakerState.CLOSED}
    fleet.serve(0.05, 100, failing=1.0)
    assert fleet.states() == {BreakerState.OPEN}


def test_an_open_breaker_admits_only_probes(fleet: Fleet) -> None:
    fleet.until(BreakerState.OPEN, 200, failing=1.0)
    admitted = fleet.serve(10, 200, failing=1.0)
    assert 45 <= sum(admitted) <= 51


def test_at_an_error_rate_of_20_percent_half_is_admitted(fleet: Fleet) -> None:
    fleet.serve(15, 200, failing=0.2)
    admitted = fleet.serve(60, 200, failing=0.2)
    assert fleet.states() == {BreakerState.REDUCED}
    assert 0.45 < sum(admitted) / len(admitted) < 0.55


def test_the_breaker_closes_within_10_seconds_of_the_last_failure(fleet: Fleet) -> None:
    fleet.until(BreakerState.OPEN, 200, failing=0.5)
    fleet.serve(5, 200, failing=0.5)
    assert fleet.until(BreakerState.CLOSED, 200, failing=0.0) < 10
    assert all(fleet.serve(20, 200, failing=0.0))


def test_the_status_of_a_recovered_version_does_not_include_its_failures(fleet: Fleet) -> None:
    fleet.until(BreakerState.OPEN, 200, failing=1.0)
    status = summary(fleet.workers[0], fleet.now)
    assert (status.error_rate, status.volume) == (1.0, CONFIG.min_volume)
    fleet.until(BreakerState.CLOSED, 200, failing=0.0)
    fleet.serve(0.5, 200, failing=0.0)
    status = summary(fleet.workers[0], fleet.now)
    assert status.error_rate == 0.0
    assert status.volume >= 100


def test_the_breaker_stays_open_while_half_the_probes_fail(fleet: Fleet) -> None:
    fleet.until(BreakerState.OPEN, 200, failing=0.5)
    admitted = fleet.serve(30, 200, failing=0.5)
    assert sum(admitted) / len(admitted) < 0.05


def test_a_version_with_few_requests_recovers_too(fleet: Fleet) -> None:
    fleet.until(BreakerState.OPEN, 50, failing=1.0)
    fleet.serve(30, 1, failing=0.0)
    assert fleet.states() == {BreakerState.CLOSED}


def test_a_slow_version_without_failures_is_never_refused(fleet: Fleet) -> None:
    fleet.latency = 20.0
    assert all(fleet.serve(60, 200, failing=0.0))


def test_the_breaker_stays_open_while_no_probe_is_answered(fleet: Fleet) -> None:
    fleet.until(BreakerState.OPEN, 200, failing=1.0)
    fleet.latency = 1e9
    fleet.serve(60, 200, failing=1.0)
    assert fleet.states() == {BreakerState.OPEN}


def test_a_restarted_worker_has_the_state_at_once(fleet: Fleet) -> None:
    fleet.until(BreakerState.OPEN, 200, failing=1.0)
    fleet.tables[0].close()
    fleet.tables[0] = CounterTable(fleet.path, 0)
    fleet.workers[0] = Breaker(fleet.tables[0], {VERSION: CONFIG})
    assert fleet.workers[0].admit(fleet.now, VERSION, 0.0).state is BreakerState.OPEN
    assert fleet.states() == {BreakerState.OPEN}


def test_a_changed_threshold_keeps_the_counts(fleet: Fleet) -> None:
    fleet.serve(10, 200, failing=0.2)
    for worker in fleet.workers:
        worker.configure({VERSION: BreakerConfig(refuse_above=0.15, reduce_above=0.1)})
    assert fleet.states() == {BreakerState.OPEN}


@pytest.mark.parametrize(
    "change",
    [
        lambda worker: worker.configure({}),
        lambda worker: worker.configure({VERSION: BreakerConfig(enabled=False)}),
    ],
)
def test_a_version_without_a_breaker_is_never_refused(
    fleet: Fleet, change: Callable[[Breaker], None]
) -> None:
    fleet.until(BreakerState.OPEN, 200, failing=1.0)
    for worker in fleet.workers:
        change(worker)
    assert all(fleet.serve(5, 200, failing=1.0))


def test_versions_without_room_in_the_table_are_counted_and_admitted(tmp_path: Path) -> None:
    create(tmp_path / "small", rows=1, columns=220)
    table = CounterTable(tmp_path / "small", 0)
    breaker = Breaker(table, {"a": CONFIG, "b": CONFIG})
    for _ in range(100):
        for cluster in ("a", "b"):
            breaker.record(1000.0, cluster, ok=False)
    assert (
        not breaker.admit(1000.0, "a", 0.0).admitted or summary(breaker, 1000.0, "a").volume == 100
    )
    assert breaker.admit(1000.0, "b", 0.0).admitted
    assert breaker.unprotected == 1
    assert breaker.protected == {"a"}
    breaker.configure({"a": CONFIG})
    assert breaker.unprotected == 0
    table.close()


def test_a_window_and_a_probe_interval_may_be_as_short_as_the_config_allows(tmp_path: Path) -> None:
    create(tmp_path / "counters", rows=1, columns=220)
    table = CounterTable(tmp_path / "counters", 0)
    breaker = Breaker(table, {VERSION: BreakerConfig(window=0.001, probe_interval=0.001)})
    breaker.record(1000.0, VERSION, ok=False, count=100)
    verdict = breaker.admit(1000.0, VERSION, 0.0)
    assert (verdict.state, verdict.admitted) == (BreakerState.OPEN, True)
    table.close()


buckets = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40)


@given(buckets)
def test_below_the_minimum_volume_there_is_no_error_rate(found: list[tuple[int, int]]) -> None:
    volume = sum(succeeded + failed for succeeded, failed in found)
    rate = error_rate(found, CONFIG)
    assert (rate is None) == (volume < CONFIG.min_volume)
    if rate is None:
        assert state_from_window(found, CONFIG) is BreakerState.CLOSED


@given(buckets)
def test_without_failures_the_breaker_is_closed(found: list[tuple[int, int]]) -> None:
    assert (
        state_from_window([(succeeded, 0) for succeeded, _ in found], CONFIG) is BreakerState.CLOSED
    )


@pytest.mark.parametrize(
    ("failed", "state"),
    [
        (10, BreakerState.CLOSED),
        (11, BreakerState.REDUCED),
        (30, BreakerState.REDUCED),
        (31, BreakerState.OPEN),
    ],
)
def test_a_threshold_must_be_exceeded(failed: int, state: BreakerState) -> None:
    assert state_from_window([(100 - failed, failed)], CONFIG) is state


@given(buckets)
def test_a_version_that_failed_just_now_has_not_recovered(found: list[tuple[int, int]]) -> None:
    assert not recovered([(CONFIG.probe_successes - 1, 1), *found], CONFIG)
