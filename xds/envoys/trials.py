"""Judges a change of the config by what Envoys and workers report, against the time before it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sluice.contract.traffic import REPORT_INTERVAL
from xds.envoys.criteria import P99, Criteria, Figures, breach
from xds.envoys.histogram import Histogram
from xds.envoys.observations import Observations

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


class TrafficTrial:
    """Judges the gateway and each model that had requests before."""

    def __init__(
        self, observations: Observations, clock: Callable[[], float], criteria: Criteria
    ) -> None:
        self._observations, self._clock, self._criteria = observations, clock, criteria
        self._since = clock()
        self._before = figures(observations, BEFORE, self._since) or {}
        self._suspicion: str | None = None

    def start(self) -> None:
        """The change is in force now. Earlier requests are not judged."""
        self._since = self._clock()

    def failure(self) -> str | None:
        """Why the change is worse than what was before; None if it is not, or nothing is known.

        Only what two judgements in a row find is a failure: a change can disturb for a moment.
        """
        now = self._clock()
        seconds = min(AFTER, now - self._since - LATE)
        after = figures(self._observations, seconds, now) or {}
        models = sorted(after, reverse=True)  # the gateway last: a model says more
        found = {key: reason for key in models if (reason := self._breach(key, after[key]))}
        suspected, self._suspicion = self._suspicion, next(iter(found), None)
        return None if suspected is None else found.get(suspected)

    def _breach(self, key: str, seen: Figures) -> str | None:
        before = self._before.get(key)
        if before is None and key != GATEWAY:
            return None
        reason = breach(self._criteria, seen, before, "before the change")
        if reason is None:
            return None
        return f"{f'model {key}' if key else 'all models'}: {reason}"


@dataclass(slots=True)
class _Total:
    requests: int = 0
    errors: int = 0
    latencies: Histogram = field(default_factory=Histogram)


def figures(observations: Observations, seconds: float, now: float) -> Mapping[str, Figures] | None:
    """What was seen of each model in the last seconds, and of all (`GATEWAY`).

    None if the counts are not complete for long enough. Of less than `seconds`, if they are not
    complete for all of them.
    """
    busiest = observations.busiest(seconds, now, MAX_VERSIONS)
    if not busiest or seconds < MIN_SECONDS:
        return None
    latest = observations.window(*busiest[0], seconds, now)
    if latest.state != "current" or latest.covered < MIN_SECONDS:
        return None
    totals = {GATEWAY: _Total()}
    for model, version in busiest:
        window = observations.window(model, version, latest.covered, now)
        for total in (totals[GATEWAY], totals.setdefault(model, _Total())):
            total.requests += window.requests
            total.errors += window.errors
            total.latencies.merge(window.latencies)
    return {
        key: Figures(total.requests, total.errors, total.latencies.quantile(P99))
        for key, total in totals.items()
    }
