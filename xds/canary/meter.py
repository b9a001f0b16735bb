"""Counts the requests to a canary and to the stable version since a step is in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluice.contract.names import cluster_name
from xds.canary.figures import Copies, Counts, Part
from xds.envoys.observations import Observations, Window
from xds.envoys.reporters import BreakerState, SourceName
from xds.envoys.series import FINE, MAX_WINDOW

_TOLERANCE: Final = 0.001
"""Seconds by which two ways to compute a time may differ."""


@dataclass(frozen=True, slots=True)
class _Total:
    """Counts of one version since the start of the control plane."""

    requests: int = 0
    errors: int = 0
    copies: int = 0
    agreed: int = 0


_Totals = Mapping[str, _Total]
"""By cluster."""


@dataclass(frozen=True, slots=True)
class _Start:
    """When the counts began, on the clock of the observations, and the totals at that time."""

    at: float
    source: SourceName | None
    totals: _Totals


class Meter:
    """Reads the observations of one control plane for one step of one canary.

    It begins again after each time for which reports are missing. Requests and errors are those
    since its beginning; latencies those of the last ten minutes of it.
    """

    def __init__(self, observations: Observations, model: str, canary: str, stable: str) -> None:
        self._observations = observations
        self._model, self._versions = model, (canary, stable)
        self._start: _Start | None = None
        self._difference = 0.0

    def read(self, now: float) -> Part:
        """What was seen until now."""
        start = self._start
        seconds = 0.0 if start is None else now - start.at
        canary, stable = (
            self._observations.window(self._model, version, seconds, now)
            for version in self._versions
        )
        if start is None or start.source != canary.source or _has_gap(canary, seconds):
            start = self._start = _Start(now, canary.source, self._totals(canary.source))
            self._difference = 0.0
            return Part(0.0, canary.source, _missing(canary))
        totals = self._totals(canary.source)
        counts = [
            _since(start.totals[name], totals[name], window)
            for name, window in zip(self._clusters, (canary, stable), strict=True)
        ]
        breaker = self._observations.breaker(self._model, self._versions[0], now)
        is_open = breaker is not None and breaker.state is BreakerState.OPEN
        copies = self._copies(start, totals[self._clusters[0]], now)
        gap = _missing(canary)
        return Part(seconds, canary.source, gap, counts[0], counts[1], is_open, copies)

    @property
    def _clusters(self) -> tuple[str, ...]:
        return tuple(cluster_name(self._model, version) for version in self._versions)

    def _totals(self, source: SourceName | None) -> _Totals:
        known = {} if source is None else self._observations.totals[source]
        found = {name: known.get(name) for name in self._clusters}
        return {
            name: _Total()
            if each is None
            else _Total(each.requests, each.errors, each.comparison.copies, each.comparison.agreed)
            for name, each in found.items()
        }

    def _copies(self, start: _Start, total: _Total, now: float) -> Copies:
        """The copies since the start. Their largest difference is kept, also when it is old.

        The window has the bucket in which the start is too: no difference is missed.
        """
        seconds = now - start.at + FINE
        window = self._observations.window(self._model, self._versions[0], seconds, now)
        self._difference = max(self._difference, window.comparison.max_difference)
        before = start.totals[self._clusters[0]]
        copies = max(0, total.copies - before.copies)
        return Copies(copies, max(0, total.agreed - before.agreed), self._difference)


def _has_gap(window: Window, seconds: float) -> bool:
    return window.covered < min(seconds, MAX_WINDOW) - _TOLERANCE


def _missing(window: Window) -> str:
    """Why the counts cannot be used; empty if they can, or if nobody reports here."""
    if window.state != "stale":
        return ""
    silent = f" from {', '.join(window.silent[:3])}" if window.silent else ""
    return f"reports are missing{silent}"


def _since(start: _Total, now: _Total, window: Window) -> Counts:
    # Totals begin at 0 again if a version was removed and added meanwhile.
    requests, errors = max(0, now.requests - start.requests), max(0, now.errors - start.errors)
    return Counts(requests, errors, window.latencies.bins)
