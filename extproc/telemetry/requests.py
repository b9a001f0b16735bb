"""Counts finished requests by model, version, status and reason, all of which the policy bounds."""

from collections.abc import Mapping

from extproc.decision.reasons import Reason
from extproc.telemetry import catalog
from extproc.telemetry.entry import REASONS, Entry
from extproc.telemetry.metrics import Metrics, Number, Times

OTHER = "other"
"""Stands for whatever neither the policy nor the gateway knows."""

KNOWN_REASONS = REASONS | set(Reason)

Versions = Mapping[str, frozenset[str]]
"""The names of every model's versions."""


class RequestMetrics:
    """Records entries. Series are looked up once for each combination that occurs."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._versions: Versions = {}
        self._series: dict[tuple[str, str, int, str], tuple[Number, Times, Times]] = {}

    def follow(self, versions: Versions) -> None:
        """These are the models now."""
        self._versions = versions
        self._series.clear()

    def record(self, entry: Entry) -> None:
        """Count one request."""
        key = (entry.model, entry.version, entry.status, entry.reason)
        series = self._series.get(key) or self._look_up(key)
        series[0].add()
        series[1].observe(entry.duration_ms * 1000)
        if entry.upstream_ms is not None:
            series[2].observe(entry.upstream_ms * 1000)

    def _look_up(self, key: tuple[str, str, int, str]) -> tuple[Number, Times, Times]:
        model, version, status, reason = key
        versions = self._versions.get(model)
        if versions is None:
            model, version = OTHER if model else "", OTHER if version else ""
        elif version and version not in versions:
            version = OTHER
        if reason and reason not in KNOWN_REASONS:
            reason = OTHER
        # 0: the client left before there was an answer.
        status_class = f"{status // 100}xx" if status else "none"
        series = (
            self._metrics.count(catalog.REQUESTS, model, version, status_class, reason),
            self._metrics.timings(catalog.REQUEST_SECONDS, model, version),
            self._metrics.timings(catalog.UPSTREAM_SECONDS, model, version),
        )
        self._series[key] = series
        return series
