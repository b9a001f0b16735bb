"""What limits, breaker and conversion have counted, in the words of the catalog."""

from collections.abc import Iterable

from extproc.convert import ConversionPool
from extproc.protection import Protection
from extproc.services.ext_proc.admission_cache import AdmissionCache
from extproc.telemetry import catalog
from extproc.telemetry.metrics import MICRO, HistogramSeries, Metrics
from extproc.telemetry.totals import Reading, Total
from sluice.contract.names import split_cluster_name


def breaker_states(protection: Protection) -> Iterable[Reading]:
    """How every version stands."""
    # Before the status, which takes the room that is left: this series must have some.
    yield catalog.BREAKER_UNPROTECTED, (), protection.breaker.unprotected
    for cluster, status in protection.breaker.status(protection.monotonic()).items():
        model, version = split_cluster_name(cluster)
        yield catalog.BREAKER_STATE, (model, version), int(status.state)
        yield catalog.BREAKER_REQUESTS, (model, version), status.volume
        if status.error_rate is not None:
            yield catalog.BREAKER_ERRORS, (model, version), status.error_rate


def admission_cache_totals(cache: AdmissionCache) -> Iterable[Total]:
    """Decisions that need not be made."""
    yield catalog.ADMISSION_CACHE_HITS, (), cache.hits


def limit_totals(protection: Protection) -> Iterable[Total]:
    """Verdicts of the rules, hits of the rate limit service."""
    for rule, counts in protection.rule_counts.items():
        yield catalog.LIMITS, (rule, "admitted"), counts.admitted
        yield catalog.LIMITS, (rule, "refused"), counts.refused - counts.unavailable
        yield catalog.LIMITS, (rule, "unavailable"), counts.unavailable
        yield catalog.LIMITS, (rule, "shadow_refused"), counts.shadow_refused
    for name, hits in protection.rate_limits.counts.items():
        for verdict in ("total_hits", "over_limit", "near_limit", "within_limit", "shadow_mode"):
            yield catalog.RATE_LIMIT_HITS, (name, verdict), getattr(hits, verdict)


def conversion_totals(pool: ConversionPool) -> Iterable[Total]:
    """Numbers and sizes of conversions."""
    for name, counts in pool.counts.items():
        yield catalog.CONVERSIONS, (name, "converted"), counts.count - counts.failed
        yield catalog.CONVERSIONS, (name, "refused"), counts.failed
        yield catalog.CONVERSION_BYTES, (name, "before"), counts.bytes_in
        yield catalog.CONVERSION_BYTES, (name, "after"), counts.bytes_out
    yield catalog.CONVERSIONS_REJECTED, (), pool.refused


def conversions_pending(pool: ConversionPool) -> Iterable[Reading]:
    """What the pool is busy with."""
    yield catalog.CONVERSIONS_PENDING, (), pool.pending


class ConversionTimes:
    """Observes for a pool how long its conversions take."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._series: dict[tuple[str, str], HistogramSeries] = {}

    def observe(self, name: str, work: float, wait: float | None) -> None:
        """A converter worked for so many seconds, after waiting for a thread, if it needed one."""
        self._of(name, "work").observe(work * MICRO)
        if wait is not None:
            self._of(name, "wait").observe(wait * MICRO)

    def _of(self, name: str, phase: str) -> HistogramSeries:
        series = self._series.get((name, phase))
        if series is None:
            series = self._metrics.timings(catalog.CONVERSION_SECONDS, name, phase)
            self._series[name, phase] = series
        return series


def backend_state(protection: Protection) -> Iterable[Reading]:
    """Whether the backend of the budgets answers; nothing for budgets in this process."""
    available = protection.budgets.available
    if available is not None:
        yield catalog.BACKEND_UP, (), available


def backend_totals(protection: Protection) -> Iterable[Total]:
    """Budgets forgotten, and exchanges with the backend of those that are not in this process."""
    yield catalog.EVICTIONS, (), protection.budgets.evictions
    counts = protection.backend_counts
    if counts is not None:
        yield catalog.BUDGETS, ("exchange",), counts.exchanges
        yield catalog.BUDGETS, ("failure",), counts.failures
        yield catalog.BUDGETS, ("waited",), counts.waited
        yield catalog.BUDGETS, ("fallback",), counts.fallbacks
