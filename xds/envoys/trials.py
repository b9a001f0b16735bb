"""Judges a change of the config by what Envoys and workers report, against the time before it.

A breaker that opens is a failure of its own: the requests that it refuses are not counted, so a
version that fails completely soon has too few requests for the other criteria.
"""

import time
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Final, Protocol

from sluice.contract.names import split_cluster_name
from sluice.contract.traffic import REPORT_INTERVAL
from xds.envoys.criteria import P99, Criteria, Figures, breach
from xds.envoys.histogram import Histogram
from xds.envoys.observations import Observations
from xds.envoys.reporters import BreakerState, SourceName

BEFORE: Final = 300.0
"""Seconds before the change with which the time after it is compared."""

AFTER: Final = 60.0
"""Seconds that are judged at once: the latest ones."""

MIN_SECONDS: Final = 10.0
"""Seconds with complete counts that a judgement needs: workers report every two seconds."""

LATE: Final = 2 * REPORT_INTERVAL
"""Seconds after the change in which reports may count requests from before it."""

MAX_VERSIONS: Final = 1000
"""Versions that are judged, those with the most errors and requests, to bound the time."""

GATEWAY: Final = ""
"""The key of the figures of all models together. No model has this name."""


class TrafficTrials:
    """Begins trials. `clock` is that of the observations."""

    def __init__(
        self, observations: Observations, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._observations = observations
        self._clock = clock

    def begin(self, criteria: Criteria) -> "TrafficTrial":
        """A trial of a change that begins now: what was seen before is what it is compared with."""
        return TrafficTrial(self._observations, self._clock, criteria)

    def begin_stage(self, criteria: Criteria) -> "StagedTrial":
        """A trial of a change that only some Envoys get at first."""
        return StagedTrial(self._observations, self._clock, criteria)


class TrafficTrial:
    """Judges the gateway and each model that had requests before."""

    def __init__(
        self, observations: Observations, clock: Callable[[], float], criteria: Criteria
    ) -> None:
        self._observations, self._clock, self._criteria = observations, clock, criteria
        self._since = clock()
        self._before = figures(observations, BEFORE, self._since) or {}
        self._open_before = _open(observations, self._since)
        self._suspicion = Suspicion()

    def start(self) -> None:
        """The change is in force now. Earlier requests are not judged."""
        self._since = self._clock()

    def failure(self) -> str | None:
        """Why the change is worse than what was before; None if it is not, or nothing is known."""
        now = self._clock()
        seconds = min(AFTER, now - self._since - LATE)
        after = figures(self._observations, seconds, now) or {}
        opened = _open(self._observations, now) - self._open_before
        found = breaches(self._criteria, after, self._before, "before the change")
        return self._suspicion.confirmed({**found, **_open_breakers(opened)})


class StagedTrial:
    """Judges what the staged Envoys see against what the other Envoys see at the same time."""

    def __init__(
        self, observations: Observations, clock: Callable[[], float], criteria: Criteria
    ) -> None:
        self._observations, self._clock, self._criteria = observations, clock, criteria
        self._since = clock()
        self._suspicion = Suspicion()

    def start(self, nodes: Collection[str]) -> None:
        """The change is in force at these Envoys now. Earlier requests are not judged."""
        self._since = self._clock()
        self._observations.cohorts.begin(nodes)

    def failure(self) -> str | None:
        """Why the staged Envoys are worse than the others; None if not, or nothing is known."""
        now = self._clock()
        seconds = min(AFTER, now - self._since - LATE)
        staged, others = cohort_figures(self._observations, seconds, now)
        found = breaches(self._criteria, staged, others, "of the other Envoys")
        own = self._observations.cohorts.staged_only(now - AFTER)
        opened = _open(self._observations, now) & own
        return self._suspicion.confirmed({**found, **_open_breakers(opened)})

    def end(self) -> None:
        """The change is in force at every Envoy, or at none."""
        self._observations.cohorts.end()


def _open(observations: Observations, now: float) -> Set[str]:
    """The clusters whose breaker is not closed."""
    breakers = observations.breakers(now) or {}
    return {name for name, each in breakers.items() if each.state is not BreakerState.CLOSED}


def _open_breakers(clusters: Set[str]) -> Mapping[str, str]:
    """The failures of models whose breakers have opened."""
    versions = (split_cluster_name(each) for each in sorted(clusters))
    return {
        model: f"model {model}: the breaker of {version} is not closed"
        for model, version in versions
    }


class Suspicion:
    """Only what two judgements in a row find is a failure: a change can disturb for a moment."""

    def __init__(self) -> None:
        self._key: str | None = None

    def confirmed(self, found: Mapping[str, str]) -> str | None:
        """What this judgement and the one before have found. `found`: reasons by model."""
        suspected, self._key = self._key, next(iter(found), None)
        return None if suspected is None else found.get(suspected)


def breaches(
    criteria: Criteria, seen: Mapping[str, Figures], other: Mapping[str, Figures], name: str
) -> Mapping[str, str]:
    """Why models do not meet the criteria. A model is judged if the other figures have it too."""
    found = {}
    for key in sorted(seen, reverse=True):  # the gateway last: a model says more
        if key in other or key == GATEWAY:
            reason = breach(criteria, seen[key], other.get(key), name)
            if reason is not None:
                found[key] = f"{f'model {key}' if key else 'all models'}: {reason}"
    return found


def figures(observations: Observations, seconds: float, now: float) -> Mapping[str, Figures] | None:
    """What was seen of each model in the last seconds, and of all (`GATEWAY`).

    None if the counts are not complete for long enough. Of less than `seconds`, if they are not
    complete for all of them.
    """
    covered = _covered(observations, seconds, now)
    busiest = observations.busiest(seconds, now, MAX_VERSIONS)
    if covered is None or not busiest:
        return None
    totals = _Totals()
    for model, version in busiest:
        window = observations.window(model, version, covered[1], now)
        totals.add(model, window)
    return totals.figures


def cohort_figures(
    observations: Observations, seconds: float, now: float
) -> tuple[Mapping[str, Figures], Mapping[str, Figures]]:
    """As `figures`, of the staged Envoys and of the others. Both are empty without counts."""
    staged, others = _Totals(), _Totals()
    covered = _covered(observations, seconds, now)
    if covered is not None:
        source, complete = covered
        for cluster, seen, rest in observations.cohorts.since(source, now - complete):
            model, _ = split_cluster_name(cluster)
            for bucket in seen:
                staged.add(model, bucket)
            for bucket in rest:
                others.add(model, bucket)
    return staged.figures, others.figures


def _covered(
    observations: Observations, seconds: float, now: float
) -> tuple[SourceName, float] | None:
    """The source, and the seconds for which its counts are complete; None if too few."""
    found = observations.coverage(seconds, now)
    return None if found is None or found[1] < MIN_SECONDS else found


class _Counts(Protocol):
    @property
    def requests(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def latencies(self) -> Histogram: ...


class _Totals:
    """Sums of counts by model, and of all models."""

    def __init__(self) -> None:
        self._totals = {GATEWAY: _Total()}

    def add(self, model: str, counts: _Counts) -> None:
        for total in (self._totals[GATEWAY], self._totals.setdefault(model, _Total())):
            total.requests += counts.requests
            total.errors += counts.errors
            total.latencies.merge(counts.latencies)

    @property
    def figures(self) -> Mapping[str, Figures]:
        return {
            key: Figures(total.requests, total.errors, total.latencies.quantile(P99))
            for key, total in self._totals.items()
        }


@dataclass(slots=True)
class _Total:
    requests: int = 0
    errors: int = 0
    latencies: Histogram = field(default_factory=Histogram)
