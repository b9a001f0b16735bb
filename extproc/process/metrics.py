"""Maps the numbers of a worker's components to the metric families of the catalog."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from extproc.auth import Authenticator
from extproc.convert import ConversionPool
from extproc.limits.descriptor_limiter import DescriptorLimiter
from extproc.memory_budget import MemoryBudget
from extproc.mirror import Copies
from extproc.policy.current import CurrentPolicy
from extproc.protection import Protection
from extproc.services.ext_proc.admission_cache import AdmissionCache
from extproc.telemetry import catalog
from extproc.telemetry.metrics import MICROS_PER_SECOND, HistogramSeries, Metrics
from extproc.telemetry.publisher import CounterSample, GaugeSample, samples_by_label
from extproc.transport import Counters
from sluice.contract.names import split_cluster_name

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def transport_counters(counters: Counters) -> Iterable[CounterSample]:
    """Return the gRPC server's connections, calls, messages and errors."""
    return [
        (catalog.TRANSPORT_CONNECTIONS, ("opened",), counters.connections_opened),
        (catalog.TRANSPORT_CONNECTIONS, ("closed",), counters.connections_closed),
        (catalog.TRANSPORT_CALLS, ("started",), counters.streams_opened),
        (catalog.TRANSPORT_CALLS, ("ended",), counters.streams_closed),
        (catalog.TRANSPORT_CALLS, ("refused",), counters.streams_refused),
        (catalog.TRANSPORT_CALLS, ("reset_by_peer",), counters.streams_reset_by_peer),
        (catalog.TRANSPORT_CALLS, ("deadline_exceeded",), counters.deadlines_exceeded),
        (catalog.TRANSPORT_MESSAGES, ("received",), counters.messages_received),
        (catalog.TRANSPORT_MESSAGES, ("sent",), counters.messages_sent),
        *samples_by_label(catalog.TRANSPORT_PROTOCOL_ERRORS, counters.protocol_errors),
        *samples_by_label(catalog.TRANSPORT_ABUSE, counters.abuse_closures),
    ]


def token_counters(authenticator: Authenticator) -> Iterable[CounterSample]:
    """Return the hits and misses of the verified-token cache."""
    return [
        (catalog.TOKENS, ("hit",), authenticator.hits),
        (catalog.TOKENS, ("miss",), authenticator.misses),
    ]


def key_set_gauges(current_policy: CurrentPolicy) -> Iterable[GaugeSample]:
    """Return the state of the key set of every issuer with a `jwks_uri`."""
    if current_policy.current is None:
        return
    for key_set in current_policy.current.authenticator.fetched_key_sets(time.monotonic()):
        yield catalog.JWKS_USABLE, (key_set.issuer,), key_set.usable
        if key_set.age is not None:
            yield catalog.JWKS_AGE, (key_set.issuer,), int(key_set.age)
        if key_set.failure is not None:
            yield catalog.JWKS_FETCH_FAILING, (key_set.issuer, key_set.failure), 1


def admission_cache_counters(*caches: AdmissionCache) -> Iterable[CounterSample]:
    """Return the hits of the admission caches."""
    yield catalog.ADMISSION_CACHE_HITS, (), sum(cache.hits for cache in caches)


def copy_counters(copies: Copies) -> Iterable[CounterSample]:
    """Return the copies of requests of every version that mirrors another."""
    for cluster, counts in copies.counts.totals.items():
        model, version = split_cluster_name(cluster)
        for result in ("agreed", "disagreed", "failed"):
            yield catalog.COPIES, (model, version, result), getattr(counts, result)
        for cause, dropped in counts.dropped.items():
            yield catalog.COPIES_DROPPED, (model, version, cause), dropped


def limit_counters(protection: Protection) -> Iterable[CounterSample]:
    """Return the verdicts of the limit rules."""
    for rule, counts in protection.rule_counts.items():
        yield catalog.LIMIT_REQUESTS, (rule, "admitted"), counts.admitted
        yield catalog.LIMIT_REQUESTS, (rule, "refused"), counts.refused - counts.unavailable
        yield catalog.LIMIT_REQUESTS, (rule, "unavailable"), counts.unavailable
        yield catalog.LIMIT_REQUESTS, (rule, "shadow_refused"), counts.shadow_refused


def rate_limit_counters(limiter: DescriptorLimiter) -> Iterable[CounterSample]:
    """Return the hits of the rate limit service."""
    for name, hits in limiter.counts.items():
        for verdict in ("total_hits", "over_limit", "near_limit", "within_limit", "shadow_mode"):
            yield catalog.RATE_LIMIT_HITS, (name, verdict), getattr(hits, verdict)


def limit_backend_counters(protection: Protection) -> Iterable[CounterSample]:
    """Return the number of evicted budgets, and the events of the limit backend if there is one."""
    yield catalog.LIMIT_EVICTIONS, (), protection.budgets.evictions
    counts = protection.backend_counts
    if counts is not None:
        yield catalog.LIMIT_BACKEND_EVENTS, ("exchange",), counts.exchanges
        yield catalog.LIMIT_BACKEND_EVENTS, ("failure",), counts.failures
        yield catalog.LIMIT_BACKEND_EVENTS, ("waited",), counts.waited
        yield catalog.LIMIT_BACKEND_EVENTS, ("fallback",), counts.fallbacks


def limit_backend_gauges(protection: Protection) -> Iterable[GaugeSample]:
    """Return whether the limit backend responds; nothing if the budgets are in this process."""
    available = protection.budgets.available
    if available is not None:
        yield catalog.LIMIT_BACKEND_UP, (), available


def conversion_counters(pool: ConversionPool) -> Iterable[CounterSample]:
    """Return the number of conversions, and the bytes before and after."""
    for name, counts in pool.counts.items():
        yield catalog.CONVERSIONS, (name, "converted"), counts.count - counts.failed
        yield catalog.CONVERSIONS, (name, "refused"), counts.failed
        yield catalog.CONVERSION_BYTES, (name, "before"), counts.bytes_in
        yield catalog.CONVERSION_BYTES, (name, "after"), counts.bytes_out
    yield catalog.CONVERSIONS_REJECTED, (), pool.refused


def conversion_gauges(pool: ConversionPool) -> Iterable[GaugeSample]:
    """Return the number of pending conversions."""
    yield catalog.CONVERSIONS_PENDING, (), pool.pending


def memory_counters(memory: MemoryBudget) -> Iterable[CounterSample]:
    """Return the number of refused reservations."""
    yield catalog.MEMORY_REFUSED, (), memory.refused


def memory_gauges(memory: MemoryBudget) -> Iterable[GaugeSample]:
    """Return the used bytes of the memory budget, and its limit."""
    yield catalog.MEMORY_USED, (), memory.used
    yield catalog.MEMORY_LIMIT, (), memory.limit


def cpu_counters(worker: int) -> Iterable[CounterSample]:
    """Return the CPU time of this process."""
    milliseconds = int(time.process_time() * catalog.WORKER_CPU.scale)
    yield catalog.WORKER_CPU, (str(worker),), milliseconds


def resident_gauges(worker: int) -> Iterable[GaugeSample]:
    """Return the resident memory of this process: the second number of proc_pid_statm(5)."""
    pages = int(_STATM.read_text().split()[1])
    yield catalog.WORKER_MEMORY, (str(worker),), pages * _PAGE


class ConversionTimes:
    """Records the duration of conversions. A conversion pool calls `observe`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._series: dict[tuple[str, str], HistogramSeries] = {}

    def observe(self, converter: str, work: float, wait: float | None) -> None:
        """Record the duration of a conversion, and of its wait for a thread, in seconds.

        `wait` is None if the conversion ran on the event loop.
        """
        self._histogram(converter, "work").observe(work * MICROS_PER_SECOND)
        if wait is not None:
            self._histogram(converter, "wait").observe(wait * MICROS_PER_SECOND)

    def _histogram(self, converter: str, phase: str) -> HistogramSeries:
        series = self._series.get((converter, phase))
        if series is None:
            series = self._metrics.histogram(catalog.CONVERSION_SECONDS, converter, phase)
            self._series[converter, phase] = series
        return series
