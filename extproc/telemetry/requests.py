"""Counts finished requests by model, version, status and reason.

The policy bounds models and versions, the gateway's own code the reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extproc.telemetry import catalog
from extproc.telemetry.entry import MAX_OUTCOMES, AccessLogEntry, RequestOutcome
from extproc.telemetry.metrics import CounterSeries, HistogramSeries, Metrics

OTHER = "other"
"""Stands for models and versions that the policy does not have, and for reasons beyond so many."""

MAX_REASONS = 100

Versions = Mapping[str, frozenset[str]]
"""The names of every model's versions."""


class RequestMetrics:
    """Records entries. Series are looked up once for each outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._versions: Versions = {}
        self._reasons: set[str] = set()
        self._series: dict[RequestOutcome, _Series] = {}

    def follow(self, versions: Versions) -> None:
        """These are the models now."""
        self._versions = versions
        self._series.clear()

    def record(self, entries: Sequence[AccessLogEntry]) -> None:
        """Count requests, as many at once as there are: that is what makes it cheap."""
        by_outcome: dict[RequestOutcome, list[AccessLogEntry]] = {}
        for entry in entries:
            alike = by_outcome.get(entry.outcome)
            if alike is None:
                by_outcome[entry.outcome] = [entry]
            else:
                alike.append(entry)
        for outcome, alike in by_outcome.items():
            series = self._series.get(outcome) or self._look_up(outcome)
            series.count.add(len(alike))
            series.duration.observe_all([entry.duration for entry in alike])
            if outcome.upstream:
                times = [e.upstream_time for e in alike if e.upstream_time is not None]
                series.upstream.observe_all(times)

    def _look_up(self, outcome: RequestOutcome) -> "_Series":
        model, version, reason = outcome.model, outcome.version, outcome.reason
        versions = self._versions.get(model)
        if versions is None:
            model, version = OTHER if model else "", OTHER if version else ""
        elif version and version not in versions:
            version = OTHER
        if len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
        elif reason not in self._reasons:
            reason = OTHER
        # 0: the client left before there was an answer.
        status = f"{outcome.status // 100}xx" if outcome.status else "none"
        series = _Series(
            self._metrics.count(catalog.REQUESTS, model, version, status, reason),
            self._metrics.timings(catalog.REQUEST_SECONDS, model, version),
            self._metrics.timings(catalog.UPSTREAM_SECONDS, model, version),
        )
        if len(self._series) >= MAX_OUTCOMES:
            self._series.clear()
        self._series[outcome] = series
        return series


@dataclass(frozen=True, slots=True)
class _Series:
    count: CounterSeries
    duration: HistogramSeries
    upstream: HistogramSeries
