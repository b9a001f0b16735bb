"""Publishes the breakers of a worker as metrics. Idle breakers are written once, and not read."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from extproc.breaker import BreakerState, BreakerSummary
from extproc.protection import Protection
from extproc.telemetry import catalog
from extproc.telemetry.metrics import GaugeSeries, Metrics
from sluice.contract.names import split_cluster_name

_IDLE: Final = BreakerSummary(BreakerState.CLOSED, None, 0)


@dataclass(frozen=True, slots=True)
class _Series:
    """The series of one version."""

    state: GaugeSeries
    error_rate: GaugeSeries
    requests: GaugeSeries

    @classmethod
    def of(cls, metrics: Metrics, cluster: str) -> "_Series":
        labels = split_cluster_name(cluster)
        return cls(
            metrics.gauge(catalog.BREAKER_STATE, *labels),
            metrics.gauge(catalog.BREAKER_ERROR_RATIO, *labels),
            metrics.gauge(catalog.BREAKER_REQUESTS, *labels),
        )

    def set(self, summary: BreakerSummary) -> None:
        self.state.set(int(summary.state))
        self.requests.set(summary.volume)
        if summary.error_rate is None:
            self.error_rate.clear()
        else:
            self.error_rate.set(summary.error_rate)

    def clear(self) -> None:
        for gauge in (self.state, self.error_rate, self.requests):
            gauge.clear()


class BreakerGauges:
    """The state of every version's breaker, and the number of versions without a breaker."""

    def __init__(self, metrics: Metrics, protection: Protection) -> None:
        self._metrics = metrics
        self._protection = protection
        # This series is first, so that it gets a column even if the others fill the table.
        self._unprotected = metrics.gauge(catalog.BREAKER_UNPROTECTED)
        self._series: dict[str, _Series] = {}
        self._active: set[str] = set()

    def publish(self) -> None:
        """Write what may have changed."""
        breaker = self._protection.breaker
        active = breaker.active(self._protection.monotonic())
        self._unprotected.set(breaker.unprotected)
        self._follow(breaker.protected)
        for cluster, summary in active.items():
            self._series[cluster].set(summary)
        for cluster in self._active - active.keys():
            if cluster in self._series:
                self._series[cluster].set(_IDLE)
        self._active = set(active)

    def _follow(self, protected: Set[str]) -> None:
        """Add the series of new versions, and remove those of versions without a breaker."""
        if protected == self._series.keys():
            return
        for cluster in self._series.keys() - protected:
            self._series.pop(cluster).clear()
        for cluster in protected - self._series.keys():
            self._series[cluster] = _Series.of(self._metrics, cluster)
            self._series[cluster].set(_IDLE)
