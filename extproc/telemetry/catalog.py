"""Every family of metrics that the callout exposes.

This is the registry: a part that counts something adds its family here, asks `Metrics` for the
series, and describes it in docs/reference/metrics.md.
"""

from extproc.telemetry.metrics import LOST, MICRO, Counter, Family, Gauge, Histogram

_LATENCIES = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_CONVERSIONS = (
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_DECISIONS = (
    0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025,
)  # fmt: skip

REQUESTS = Counter(
    "sluice_requests_total",
    "Requests that ended, as Envoy reported them.",
    ("model", "version", "status", "reason"),
)
REQUEST_SECONDS = Histogram(
    "sluice_request_seconds",
    "From a request's first byte to the end of its response.",
    ("model", "version"),
    _LATENCIES,
)
UPSTREAM_SECONDS = Histogram(
    "sluice_upstream_seconds",
    "From the last byte sent to a model server to the first byte of its response.",
    ("model", "version"),
    _LATENCIES,
)
REPORTS_INVALID = Counter(
    "sluice_reports_invalid_total", "Batches of reports from Envoy that could not be read."
)
DECISIONS = Counter(
    "sluice_decisions_total",
    "Decisions by verdict; the stage is the one that refused, or all of them.",
    ("stage", "verdict", "reason"),
)
DECISION_SECONDS = Histogram(
    "sluice_decision_seconds",
    "Time that decisions took, without the transport; of those that were made, not found again.",
    ("verdict",),
    _DECISIONS,
)
STAGE_SECONDS = Histogram(
    "sluice_decision_stage_seconds",
    "Time that single stages took, of one decision in 64.",
    ("stage", "verdict"),
    _DECISIONS,
)
TOKENS = Counter(
    "sluice_tokens_total",
    "Tokens that were decided on: known from before (hit), or to be verified (miss).",
    ("cache",),
)
ADMISSION_CACHE_HITS = Counter(
    "sluice_admission_cache_hits_total",
    "Decisions that were found again, for a request like one before, and not made.",
)
LOG_LINES = Counter("sluice_log_lines_total", "Access log lines written.")
LOG_DROPPED = Counter(
    "sluice_log_dropped_total",
    "Access log lines lost: the queue was full, or the output failed.",
    ("cause",),
)
LOG_QUEUE = Gauge("sluice_log_queue_bytes", "Access log bytes that wait for the output.")

CALLS = Counter("sluice_transport_calls_total", "gRPC calls, by what became of them.", ("event",))
MESSAGES = Counter("sluice_transport_messages_total", "gRPC messages.", ("direction",))
CONNECTIONS = Counter("sluice_transport_connections_total", "Connections.", ("event",))
PROTOCOL_ERRORS = Counter(
    "sluice_transport_protocol_errors_total", "HTTP/2 errors of peers (RFC 9113).", ("error",)
)
ABUSE = Counter("sluice_transport_abuse_total", "Peers cut off by a limit of abuse.", ("limit",))

BREAKER_STATE = Gauge(
    "sluice_breaker_state",
    "What a version's callers meet: 0 all get through, 1 a share does, 2 only probes do.",
    ("model", "version"),
    "max",
)
BREAKER_ERRORS = Gauge(
    "sluice_breaker_error_ratio",
    "Share of the requests that a version failed, as its breaker judges; none below min_volume.",
    ("model", "version"),
    "max",
    MICRO,
)
BREAKER_REQUESTS = Gauge(
    "sluice_breaker_requests",
    "Requests in the window that a version's breaker judges by.",
    ("model", "version"),
    "max",
)
BREAKER_UNPROTECTED = Gauge(
    "sluice_breaker_unprotected_versions",
    "Versions that are never broken, because the shared table has no room for their counts.",
    over_workers="max",
)
LIMITS = Counter(
    "sluice_limit_requests_total",
    "Requests that a rule of limits.rules judged; shadow rules refuse nothing.",
    ("rule", "verdict"),
)
BUDGETS = Counter(
    "sluice_limit_backend_total",
    "Exchanges with the limits' backend, and requests that waited for it or went without it.",
    ("event",),
)
BACKEND_UP = Gauge(
    "sluice_limit_backend_up",
    "Whether the limits' backend answered every worker the last time that it was asked.",
    over_workers="min",
)
EVICTIONS = Counter(
    "sluice_limit_evictions_total",
    "Budgets forgotten because a process had no room for more; their keys begin as if used up.",
)
RATE_LIMIT_HITS = Counter(
    "sluice_ratelimit_hits_total",
    "Hits that the rate limit service counted, by its limit's name.",
    ("limit", "verdict"),
)
CONVERSIONS = Counter(
    "sluice_conversions_total", "Payloads converted, or refused.", ("converter", "result")
)
CONVERSION_SECONDS = Histogram(
    "sluice_conversion_seconds",
    "Time that conversions took, and that those on a thread waited for it.",
    ("converter", "phase"),
    _CONVERSIONS,
)
CONVERSION_BYTES = Counter(
    "sluice_conversion_bytes_total", "Bytes before and after conversion.", ("converter", "side")
)
CONVERSIONS_REJECTED = Counter(
    "sluice_conversions_rejected_total", "Payloads for which the queue had no place."
)
CONVERSIONS_PENDING = Gauge(
    "sluice_conversions_pending", "Conversions at work on a thread, or waiting for one."
)

WORKER_UP = Gauge("sluice_worker_up", "Whether the worker runs.", ("worker",))
WORKER_STARTS = Counter("sluice_worker_starts_total", "Starts of the worker.", ("worker",))

FAMILIES: tuple[Family, ...] = (
    REQUESTS,
    REQUEST_SECONDS,
    UPSTREAM_SECONDS,
    REPORTS_INVALID,
    DECISIONS,
    DECISION_SECONDS,
    STAGE_SECONDS,
    TOKENS,
    ADMISSION_CACHE_HITS,
    LOG_LINES,
    LOG_DROPPED,
    LOG_QUEUE,
    CALLS,
    MESSAGES,
    CONNECTIONS,
    PROTOCOL_ERRORS,
    ABUSE,
    BREAKER_STATE,
    BREAKER_ERRORS,
    BREAKER_REQUESTS,
    BREAKER_UNPROTECTED,
    LIMITS,
    BUDGETS,
    BACKEND_UP,
    EVICTIONS,
    RATE_LIMIT_HITS,
    CONVERSIONS,
    CONVERSION_SECONDS,
    CONVERSION_BYTES,
    CONVERSIONS_REJECTED,
    CONVERSIONS_PENDING,
    WORKER_UP,
    WORKER_STARTS,
    LOST,
)
