"""What limits, breaker and conversion have counted, in the words of the catalog."""

import time
from collections.abc import Iterable

from extproc.convert import Pool
from extproc.protection import Protection
from extproc.telemetry import catalog
from extproc.telemetry.totals import Reading, Total

MICRO = 1_000_000


def breaker_states(protection: Protection) -> Iterable[Reading]:
    """How every version stands."""
    for cluster, status in protection.breaker.status(time.monotonic()).items():
        model, _, version = cluster.partition("/")
        yield catalog.BREAKER_STATE, (model, version), int(status.state)


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


def conversion_totals(pool: Pool) -> Iterable[Total]:
    """Time and sizes of conversions."""
    for name, timing in pool.timings.items():
        yield catalog.CONVERSIONS, (name, "converted"), timing.count - timing.failed
        yield catalog.CONVERSIONS, (name, "refused"), timing.failed
        yield catalog.CONVERSION_MICROSECONDS, (name, "work"), int(timing.seconds * MICRO)
        yield catalog.CONVERSION_MICROSECONDS, (name, "wait"), int(timing.waited * MICRO)
        yield catalog.CONVERSION_BYTES, (name, "before"), timing.bytes_in
        yield catalog.CONVERSION_BYTES, (name, "after"), timing.bytes_out
    yield catalog.CONVERSIONS_TURNED_AWAY, (), pool.refused


def backend_totals(protection: Protection) -> Iterable[Total]:
    """Exchanges with the backend of the budgets; nothing for budgets in this process."""
    counts = protection.backend_counts
    if counts is not None:
        yield catalog.BUDGETS, ("exchange",), counts.exchanges
        yield catalog.BUDGETS, ("failure",), counts.failures
        yield catalog.BUDGETS, ("waited",), counts.waited
        yield catalog.BUDGETS, ("fallback",), counts.fallbacks
