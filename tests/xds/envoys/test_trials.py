"""Changes of the config that are judged by what workers report, with a clock that the test sets."""

from collections.abc import Mapping

from sluice.config.rollout import RolloutCriteria
from sluice.contract.traffic import REPORT_INTERVAL, latency_bin
from xds.envoys.observations import Observations
from xds.envoys.reporters import BreakerState, BreakerView, Counts
from xds.envoys.trials import MIN_SECONDS, TrafficTrial, TrafficTrials

OPEN = BreakerView(BreakerState.OPEN)
FAST, SLOW = 10_000, 100_000
"""Latencies in microseconds."""


class Gateway:
    """A worker that reports the traffic of two models."""

    def __init__(self, criteria: RolloutCriteria | None = None) -> None:
        self.now = 1000.0
        self.observations = Observations()
        self.observations.configure({"a/v1", "a/v2", "b/v1"})
        self._reporter = self.observations.join("worker", "w", self.now)
        self.trials = TrafficTrials(self.observations, lambda: self.now)
        self._criteria = criteria or RolloutCriteria()

    def run(
        self,
        seconds: float,
        traffic: Mapping[str, Counts],
        breakers: Mapping[str, BreakerView] | None = None,
    ) -> None:
        """Report this traffic every few seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now += REPORT_INTERVAL
            self._reporter.report(self.now, traffic, breakers=breakers)

    def change(self) -> TrafficTrial:
        trial = self.trials.begin(self._criteria)
        trial.start()
        return trial

    def failure(self, trial: TrafficTrial, traffic: Mapping[str, Counts]) -> str | None:
        """What the first judgements after a change find."""
        for _ in range(6):
            self.run(5.0, traffic)
            found = trial.failure()
            if found is not None:
                return found
        return None


def counts(requests: int = 100, errors: int = 0, latency: int = FAST) -> Counts:
    return Counts(requests, errors, {latency_bin(latency): requests})


def test_a_model_with_more_errors_fails() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts(), "b/v1": counts()})
    failure = gateway.failure(
        gateway.change(), {"a/v1": counts(errors=8), "b/v1": counts(errors=0)}
    )
    assert failure is not None
    assert failure.startswith("model a: ")
    assert failure.endswith("requests failed, over 5 % more than the 0 % before the change")


def test_a_model_that_became_slow_fails() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts(), "b/v1": counts(10_000)})
    slow = {"a/v1": counts(latency=SLOW), "b/v1": counts(10_000)}
    failure = gateway.failure(gateway.change(), slow)
    assert failure is not None
    assert failure.startswith("model a: p99 of ")


def test_a_model_with_few_requests_is_not_judged() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts(3), "b/v1": counts(10_000)})
    bad = {"a/v1": counts(3, errors=3, latency=SLOW), "b/v1": counts(10_000)}
    assert gateway.failure(gateway.change(), bad) is None


def test_the_gateway_as_a_whole_is_judged() -> None:
    gateway = Gateway(RolloutCriteria(max_error_rate=0.1, max_error_rate_increase=None))
    gateway.run(60, {"a/v1": counts()})
    failure = gateway.failure(gateway.change(), {"b/v1": counts(errors=50)})
    assert failure is not None
    assert failure.startswith("all models: ")


def test_versions_of_a_model_are_judged_together() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts(errors=10)})
    assert gateway.failure(gateway.change(), {"a/v2": counts(errors=12)}) is None


def test_the_same_traffic_as_before_fails_nothing() -> None:
    gateway = Gateway()
    bad = {"a/v1": counts(errors=50, latency=SLOW)}
    gateway.run(60, bad)
    assert gateway.failure(gateway.change(), bad) is None


def test_one_bad_moment_is_no_failure() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts(1000)})
    trial = gateway.change()
    gateway.run(MIN_SECONDS + REPORT_INTERVAL, {"a/v1": counts(1000)})
    gateway.run(5, {"a/v1": counts(1000, errors=500)})
    assert trial.failure() is None
    gateway.run(60, {"a/v1": counts(1000)})
    assert trial.failure() is None


def test_errors_of_the_moments_before_the_change_are_not_held_against_it() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts()})
    trial = gateway.trials.begin(RolloutCriteria())
    gateway.run(30, {"a/v1": counts(errors=100)})
    trial.start()
    assert gateway.failure(trial, {"a/v1": counts()}) is None


def test_without_complete_reports_nothing_is_judged() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts()})
    trial = gateway.change()
    gateway.observations.join("worker", "another", gateway.now)
    assert gateway.failure(trial, {"a/v1": counts(errors=100)}) is None


def test_a_breaker_that_opens_is_a_failure_also_with_few_requests() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts(), "b/v1": counts()})
    open_one, both = (dict.fromkeys(names, OPEN) for names in (["b/v1"], ["a/v1", "b/v1"]))
    gateway.run(4, {"a/v1": counts()}, open_one)
    trial = gateway.change()
    reasons = []
    for _ in range(3):
        gateway.run(2, {"a/v1": counts(3, errors=3)}, both)
        reasons.append(trial.failure())
    assert reasons[1:] == ["model a: the breaker of v1 is not closed"] * 2


def test_a_breaker_that_was_open_before_is_no_failure() -> None:
    gateway = Gateway()
    gateway.run(60, {"a/v1": counts(errors=50)}, {"a/v1": OPEN})
    trial = gateway.change()
    for _ in range(6):
        gateway.run(5, {"a/v1": counts(3, errors=3)}, {"a/v1": OPEN})
        assert trial.failure() is None
