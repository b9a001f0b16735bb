"""All metric families of the callout.

To add a metric, add its family here and to docs/reference/metrics.md, and get its series from
`Metrics`.
"""

from extproc.telemetry.metrics import (
    LOST_SERIES,
    Counter,
    Family,
    Gauge,
    Histogram,
)

_REQUEST_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_CONVERSION_BUCKETS = (
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_DECISION_BUCKETS = (
    0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025,
)  # fmt: skip

BUILD_INFO = Gauge(
    "sluice_build_info",
    "The version of the program, as a label; always 1.",
    ("version",),
    aggregation="max",
)
REQUESTS = Counter(
    "sluice_requests_total",
    "Finished requests, from Envoy's reports.",
    ("model", "version", "status", "reason", "rule"),
)
REQUESTS_BY_PLACEMENT = Counter(
    "sluice_requests_by_placement_total",
    "Finished requests, by the place of their decision.",
    ("model", "placement"),
)
REQUEST_SECONDS = Histogram(
    "sluice_request_seconds",
    "Time from the first byte of a request to the last byte of its response.",
    ("model", "version"),
    _REQUEST_BUCKETS,
)
UPSTREAM_SECONDS = Histogram(
    "sluice_upstream_seconds",
    "Time from the last byte sent to a model server to the first byte of its response.",
    ("model", "version"),
    _REQUEST_BUCKETS,
)
REPORTS_INVALID = Counter(
    "sluice_reports_invalid_total", "Reports of requests, or batches of them, that are not valid."
)
DECISIONS = Counter(
    "sluice_decisions_total",
    "Decisions by verdict and reason. stage: the stage that refused, or all for an admission.",
    ("stage", "verdict", "reason"),
)
DECISION_SECONDS = Histogram(
    "sluice_decision_seconds",
    "Duration of decisions, without the transport. Admission cache hits are not included.",
    ("verdict",),
    _DECISION_BUCKETS,
)
STAGE_SECONDS = Histogram(
    "sluice_decision_stage_seconds",
    "Duration of each decision stage, measured for one decision in 64.",
    ("stage", "verdict"),
    _DECISION_BUCKETS,
)
TOKENS = Counter(
    "sluice_tokens_total",
    "Lookups of bearer tokens in the cache of verified tokens.",
    ("cache",),
)
CREDENTIALS_REFUSED = Counter(
    "sluice_credentials_refused_total",
    "Requests refused because of their credentials, by cause.",
    ("cause",),
)
JWKS_USABLE = Gauge(
    "sluice_jwks_usable",
    "Whether every worker has fetched the issuer's key set, and it has not expired.",
    ("issuer",),
    aggregation="min",
)
JWKS_AGE = Gauge(
    "sluice_jwks_age_seconds",
    "Time since the last successful fetch of the issuer's key set, of the worker with the oldest.",
    ("issuer",),
    aggregation="max",
)
JWKS_FETCH_FAILING = Gauge(
    "sluice_jwks_fetch_failing",
    "Whether the latest fetch of the issuer's key set by some worker has failed, by cause.",
    ("issuer", "cause"),
    aggregation="max",
)
ADMISSION_CACHE_HITS = Counter(
    "sluice_admission_cache_hits_total", "Decisions served from the admission cache."
)
COPIES = Counter(
    "sluice_copies_total",
    "Copies of mirrored requests, by the result of the comparison of the answers.",
    ("model", "version", "result"),
)
COPIES_DROPPED = Counter(
    "sluice_copies_dropped_total",
    "Requests that were chosen for mirroring, but not copied or not compared.",
    ("model", "version", "cause"),
)
LOG_LINES = Counter("sluice_log_lines_total", "Access log lines written.")
LOG_DROPPED = Counter(
    "sluice_log_dropped_total",
    "Access log lines dropped because the queue was full or the output failed.",
    ("cause",),
)
LOG_QUEUE_BYTES = Gauge(
    "sluice_log_queue_bytes", "Bytes of access log lines that are not yet written."
)

TRANSPORT_CALLS = Counter(
    "sluice_transport_calls_total", "gRPC calls to the callout, by event.", ("event",)
)
TRANSPORT_MESSAGES = Counter(
    "sluice_transport_messages_total", "gRPC messages, by direction.", ("direction",)
)
TRANSPORT_CONNECTIONS = Counter(
    "sluice_transport_connections_total", "Connections to the callout, by event.", ("event",)
)
TRANSPORT_PROTOCOL_ERRORS = Counter(
    "sluice_transport_protocol_errors_total",
    "HTTP/2 protocol errors of peers, by error code (RFC 9113).",
    ("error",),
)
TRANSPORT_ABUSE = Counter(
    "sluice_transport_abuse_total",
    "Connections and streams closed because the peer exceeded an abuse limit.",
    ("limit",),
)

BREAKER_STATE = Gauge(
    "sluice_breaker_state",
    "State of a version's breaker: 0 closed, 1 reduced, 2 open.",
    ("model", "version"),
    "max",
)
BREAKER_ERROR_RATIO = Gauge(
    "sluice_breaker_error_ratio",
    "Share of failed requests in the breaker's window. Absent if there are fewer than min_volume.",
    ("model", "version"),
    "max",
    scale=1_000_000,
)
BREAKER_REQUESTS = Gauge(
    "sluice_breaker_requests",
    "Requests in the breaker's window.",
    ("model", "version"),
    "max",
)
BREAKER_UNPROTECTED = Gauge(
    "sluice_breaker_unprotected_versions",
    "Versions without a breaker because the shared table is full.",
    aggregation="max",
)
LIMIT_REQUESTS = Counter(
    "sluice_limit_requests_total",
    "Requests checked by a rule of limits.rules, by verdict. A shadow rule refuses no request.",
    ("rule", "verdict"),
)
LIMIT_BACKEND_EVENTS = Counter(
    "sluice_limit_backend_events_total",
    "Exchanges with the limit backend, and requests that waited for it or were decided without it.",
    ("event",),
)
LIMIT_BACKEND_UP = Gauge(
    "sluice_limit_backend_up",
    "Whether the limit backend responded to the latest exchange of every worker.",
    aggregation="min",
)
LIMIT_EVICTIONS = Counter(
    "sluice_limit_evictions_total",
    "Budgets evicted at max_keys although not full. They start again without tokens.",
)
RATE_LIMIT_HITS = Counter(
    "sluice_ratelimit_hits_total",
    "Hits counted by the rate limit service, by limit and verdict.",
    ("limit", "verdict"),
)
CONVERSIONS = Counter(
    "sluice_conversions_total",
    "Conversions of request and response payloads, by result.",
    ("converter", "result"),
)
CONVERSION_SECONDS = Histogram(
    "sluice_conversion_seconds",
    "Duration of conversions, and of their wait for a thread.",
    ("converter", "phase"),
    _CONVERSION_BUCKETS,
)
CONVERSION_BYTES = Counter(
    "sluice_conversion_bytes_total",
    "Payload bytes before and after conversion.",
    ("converter", "side"),
)
CONVERSIONS_REJECTED = Counter(
    "sluice_conversions_rejected_total",
    "Conversions rejected because too many waited, waited too long, or lacked memory.",
)
CONVERSIONS_PENDING = Gauge(
    "sluice_conversions_pending", "Conversions that run on a thread or wait for one."
)

MEMORY_USED = Gauge(
    "sluice_memory_used_bytes", "Bytes of request and response data that the workers hold."
)
MEMORY_LIMIT = Gauge(
    "sluice_memory_limit_bytes", "Sum of `callout.max_memory` of all workers, in bytes."
)
MEMORY_REFUSED = Counter(
    "sluice_memory_refused_total", "Refusals because a worker's memory budget was used up."
)

WORKER_UP = Gauge(
    "sluice_worker_up", "Whether the worker process runs and does not hang.", ("worker",)
)
WORKER_STARTS = Counter("sluice_worker_starts_total", "Starts of the worker process.", ("worker",))
WORKER_HANGS = Counter(
    "sluice_worker_hangs_total", "Worker processes killed because they hung.", ("worker",)
)
WORKER_SILENCE = Gauge(
    "sluice_worker_silence_seconds",
    "Time since the latest heartbeat of the worker's event loop.",
    ("worker",),
    scale=1000,
)
WORKER_CPU = Counter(
    "sluice_worker_cpu_seconds_total",
    "CPU time of the worker process, with its conversion threads.",
    ("worker",),
    scale=1000,
)
WORKER_MEMORY = Gauge(
    "sluice_worker_resident_bytes", "Resident memory of the worker process.", ("worker",)
)

FAMILIES: tuple[Family, ...] = (
    BUILD_INFO,
    REQUESTS,
    REQUESTS_BY_PLACEMENT,
    REQUEST_SECONDS,
    UPSTREAM_SECONDS,
    REPORTS_INVALID,
    DECISIONS,
    DECISION_SECONDS,
    STAGE_SECONDS,
    TOKENS,
    CREDENTIALS_REFUSED,
    JWKS_USABLE,
    JWKS_AGE,
    JWKS_FETCH_FAILING,
    ADMISSION_CACHE_HITS,
    COPIES,
    COPIES_DROPPED,
    LOG_LINES,
    LOG_DROPPED,
    LOG_QUEUE_BYTES,
    TRANSPORT_CALLS,
    TRANSPORT_MESSAGES,
    TRANSPORT_CONNECTIONS,
    TRANSPORT_PROTOCOL_ERRORS,
    TRANSPORT_ABUSE,
    BREAKER_STATE,
    BREAKER_ERROR_RATIO,
    BREAKER_REQUESTS,
    BREAKER_UNPROTECTED,
    LIMIT_REQUESTS,
    LIMIT_BACKEND_EVENTS,
    LIMIT_BACKEND_UP,
    LIMIT_EVICTIONS,
    RATE_LIMIT_HITS,
    CONVERSIONS,
    CONVERSION_SECONDS,
    CONVERSION_BYTES,
    CONVERSIONS_REJECTED,
    CONVERSIONS_PENDING,
    MEMORY_USED,
    MEMORY_LIMIT,
    MEMORY_REFUSED,
    WORKER_UP,
    WORKER_STARTS,
    WORKER_HANGS,
    WORKER_SILENCE,
    WORKER_CPU,
    WORKER_MEMORY,
    LOST_SERIES,
)
