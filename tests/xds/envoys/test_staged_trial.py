"""Staged Envoys that are judged against the others at the same time, with a clock of the test."""

from collections.abc import Mapping

import pytest

from sluice.config.rollout import RolloutCriteria
from sluice.contract.traffic import REPORT_INTERVAL
from tests.xds.envoys.test_trials import FAST, SLOW, counts
from xds.envoys.observations import Observations
from xds.envoys.reporters import BreakerState, BreakerView, Counts, SourceName
from xds.envoys.trials import StagedTrial, TrafficTrials

NONE: Mapping[str, Counts] = {}


class Gateway:
    """Two Envoys, of which `new` is staged, and a worker that both call."""

    def __init__(self, source: SourceName, criteria: RolloutCriteria | None = None) -> None:
        self.now = 1000.0
        self.observations = Observations()
        sources: tuple[SourceName, ...] = (source,)
        self.observations.configure({"a/v1", "a/v2", "b/v1"}, sources)
        self._source = source
        names = ("worker",) if source == "worker" else ("old", "new")
        self._reporters = [self.observations.join(source, name, self.now) for name in names]
        trials = TrafficTrials(self.observations, lambda: self.now)
        self.trial = trials.begin_stage(criteria or RolloutCriteria())

    def start(self) -> StagedTrial:
        self.trial.start({"new"})
        return self.trial

    def run(self, seconds: float, old: Mapping[str, Counts], new: Mapping[str, Counts]) -> None:
        """Report this traffic of both Envoys every few seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now += REPORT_INTERVAL
            if self._source == "envoy":
                for reporter, traffic in zip(self._reporters, (old, new), strict=True):
                    reporter.report(self.now, traffic)
            else:
                both = {**old, **{name: _sum(old.get(name), each) for name, each in new.items()}}
                self._reporters[0].report(self.now, both, staged=new)

    def failure(self, old: Mapping[str, Counts], new: Mapping[str, Counts]) -> str | None:
        """What the first judgements find."""
        for _ in range(6):
            self.run(5.0, old, new)
            found = self.trial.failure()
            if found is not None:
                return found
        return None


def _sum(one: Counts | None, other: Counts) -> Counts:
    if one is None:
        return other
    latencies = dict(one.latencies)
    for number, count in other.latencies.items():
        latencies[number] = latencies.get(number, 0) + count
    return Counts(one.requests + other.requests, one.errors + other.errors, latencies)


@pytest.fixture(params=["worker", "envoy"])
def source(request: pytest.FixtureRequest) -> SourceName:
    found: SourceName = request.param
    return found


def test_staged_envoys_with_more_errors_fail(source: SourceName) -> None:
    gateway = Gateway(source)
    gateway.start()
    failure = gateway.failure({"a/v1": counts(900)}, {"a/v1": counts(100, errors=8)})
    assert failure is not None
    assert failure.startswith("model a: 8 % of ")
    assert failure.endswith("requests failed, over 5 % more than the 0 % of the other Envoys")


def test_staged_envoys_that_are_slow_fail() -> None:
    gateway = Gateway("worker")
    gateway.start()
    failure = gateway.failure({"a/v1": counts(900)}, {"a/v1": counts(100, latency=SLOW)})
    assert failure is not None
    assert failure.startswith("model a: p99 of ")


def test_another_version_is_compared_with_the_one_that_it_replaces(source: SourceName) -> None:
    gateway = Gateway(source)
    gateway.start()
    failure = gateway.failure({"a/v1": counts(900)}, {"a/v2": counts(100, errors=10)})
    assert failure is not None
    assert failure.startswith("model a: 10 % of ")


def test_errors_that_all_envoys_have_are_no_failure(source: SourceName) -> None:
    gateway = Gateway(source)
    gateway.start()
    bad = {"a/v1": counts(100, errors=50)}
    assert gateway.failure(bad, bad) is None


def test_good_staged_envoys_are_kept_while_the_others_fail(source: SourceName) -> None:
    gateway = Gateway(source)
    gateway.start()
    bad = {"a/v1": counts(900, errors=500, latency=SLOW)}
    assert gateway.failure(bad, {"a/v1": counts(100, latency=FAST)}) is None


def test_few_requests_are_not_judged(source: SourceName) -> None:
    gateway = Gateway(source)
    gateway.start()
    assert gateway.failure({"a/v1": counts(900)}, {"a/v1": counts(2, errors=2)}) is None


def test_requests_before_the_stage_are_not_judged(source: SourceName) -> None:
    gateway = Gateway(source)
    gateway.run(60, {"a/v1": counts()}, {"a/v1": counts(errors=100)})
    gateway.start()
    assert gateway.failure({"a/v1": counts()}, {"a/v1": counts()}) is None


def test_nothing_is_judged_while_a_reporter_is_silent() -> None:
    gateway = Gateway("worker")
    gateway.observations.join("worker", "silent", gateway.now)
    gateway.start()
    assert gateway.failure({"a/v1": counts()}, {"a/v1": counts(errors=100)}) is None


def test_nothing_is_counted_without_a_stage(source: SourceName) -> None:
    gateway = Gateway(source)
    trial = gateway.start()
    trial.end()
    gateway.run(30, {"a/v1": counts()}, {"a/v1": counts(errors=100)})
    assert not list(gateway.observations.cohorts.since(source, 0.0))
    assert trial.failure() is None


def test_a_worker_that_lies_makes_no_count_negative() -> None:
    gateway = Gateway("worker")
    gateway.start()
    reporter = gateway.observations.join("worker", "liar", gateway.now)
    reporter.report(gateway.now, {"a/v1": counts(10)}, staged={"a/v1": counts(50, errors=20)})
    [(_, _, others)] = gateway.observations.cohorts.since("worker", 0.0)
    assert [(each.requests, each.errors, each.latencies.total) for each in others] == [(0, 0, 0)]


def test_versions_that_no_config_has_are_not_counted(source: SourceName) -> None:
    gateway = Gateway(source)
    gateway.start()
    gateway.run(10, NONE, {"x/v1": counts()})
    assert not list(gateway.observations.cohorts.since(source, 0.0))


def test_an_open_breaker_of_a_version_that_only_staged_envoys_use_is_a_failure() -> None:
    gateway = Gateway("worker")
    gateway.start()
    (reporter,) = gateway.observations.reporters
    old, few = {"a/v1": counts(900)}, {"a/v2": counts(3, errors=3)}
    reasons = []
    for _ in range(6):
        gateway.now += REPORT_INTERVAL
        opened = {"a/v2": BreakerView(BreakerState.OPEN), "b/v1": BreakerView(BreakerState.OPEN)}
        reporter.report(gateway.now, {**old, **few}, staged=few, breakers=opened)
        reasons.append(gateway.trial.failure())
    assert reasons[1] == "model a: the breaker of v2 is not closed"


def test_an_open_breaker_of_a_version_that_all_envoys_use_is_no_failure() -> None:
    gateway = Gateway("worker")
    gateway.start()
    (reporter,) = gateway.observations.reporters
    for _ in range(6):
        gateway.now += REPORT_INTERVAL
        opened = {"a/v1": BreakerView(BreakerState.OPEN)}
        few = {"a/v1": counts(3, errors=3)}
        reporter.report(gateway.now, {"a/v1": counts(9, errors=9)}, staged=few, breakers=opened)
        assert gateway.trial.failure() is None
