"""Counts finished requests by model, version, status, reason, limit and placement.

The policy bounds the models, versions and limits. `MAX_REASONS` bounds the reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extproc.telemetry import catalog
from extproc.telemetry.decisions import ADMIT, ALL_STAGES
from extproc.telemetry.entry import MAX_OUTCOMES, AccessLogEntry, RequestOutcome
from extproc.telemetry.metrics import CounterSeries, HistogramSeries, Metrics
from sluice.contract.grpc import StatusCode
from sluice.contract.names import OTHER
from sluice.contract.reasons import Reason

MAX_REASONS = len(Reason) + len(StatusCode)
"""Every reason of the contract, and `model_` with every gRPC status."""

Versions = Mapping[str, frozenset[str]]
"""Version names by model name."""


class RequestMetrics:
    """Counts access log entries. Caches the series of each outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._versions: Versions = {}
        self._limits: frozenset[str] = frozenset()
        self._reasons: set[str] = set()
        self._series: dict[RequestOutcome, _OutcomeSeries] = {}

    def set_names(self, versions: Versions, limits: frozenset[str]) -> None:
        """Set the models, the versions and the names of limits that may become label values."""
        self._versions, self._limits = versions, limits
        self._series.clear()

    def record(self, entries: Sequence[AccessLogEntry]) -> None:
        """Count requests. Entries with the same outcome are counted together, which is cheaper."""
        by_outcome: dict[RequestOutcome, list[AccessLogEntry]] = {}
        for entry in entries:
            group = by_outcome.get(entry.outcome)
            if group is None:
                by_outcome[entry.outcome] = [entry]
            else:
                group.append(entry)
        for outcome, group in by_outcome.items():
            series = self._series.get(outcome) or self._create_series(outcome)
            series.requests.add(len(group))
            series.placement.add(len(group))
            if series.decisions is not None:
                series.decisions.add(len(group))
            series.duration.observe_many([entry.duration_us for entry in group])
            if outcome.upstream:
                times = [e.upstream_us for e in group if e.upstream_us is not None]
                series.upstream.observe_many(times)

    def _create_series(self, outcome: RequestOutcome) -> "_OutcomeSeries":
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
        http_status = outcome.grpc_error or outcome.status
        # Envoy reports status 0 if the client left before there was a response.
        status = f"{http_status // 100}xx" if http_status else "none"
        limit = outcome.rule if outcome.rule in self._limits else ""
        series = _OutcomeSeries(
            self._metrics.counter(catalog.REQUESTS, model, version, status, reason, limit),
            self._metrics.counter(catalog.REQUESTS_BY_PLACEMENT, model, outcome.placement),
            self._native_decisions(outcome),
            self._metrics.histogram(catalog.REQUEST_SECONDS, model, version),
            self._metrics.histogram(catalog.UPSTREAM_SECONDS, model, version),
        )
        if len(self._series) >= MAX_OUTCOMES:
            self._series.clear()
        self._series[outcome] = series
        return series

    def _native_decisions(self, outcome: RequestOutcome) -> CounterSeries | None:
        """The counter of admissions by Envoy. The callout counts its own when it decides."""
        if outcome.placement != "native" or not outcome.admission:
            return None
        return self._metrics.counter(catalog.DECISIONS, ALL_STAGES, ADMIT, outcome.admission)


@dataclass(frozen=True, slots=True)
class _OutcomeSeries:
    requests: CounterSeries
    placement: CounterSeries
    decisions: CounterSeries | None
    duration: HistogramSeries
    upstream: HistogramSeries
