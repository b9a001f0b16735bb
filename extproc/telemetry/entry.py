"""A finished request as Envoy reports it (envoy.data.accesslog.v3), cut to what is shown of it.

Nothing here ever holds a credential: of the headers Envoy sends only those that Sluice set, and of
the path the part before the query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from google.protobuf.duration_pb2 import Duration

from protos.accesslog_pb2 import AccessLogCommon, HTTPAccessLogEntry, LogAddress, ResponseFlags

MAX_TEXT = 512
"""Characters of a path or a user agent: clients choose them, and a line must stay short."""

_METHODS = (
    "OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
)  # fmt: skip
"""By number of envoy.config.core.v3.RequestMethod."""

_PROTOCOLS = ("", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3")

_FLAGS = {
    "failed_local_healthcheck": "LH",
    "no_healthy_upstream": "UH",
    "upstream_request_timeout": "UT",
    "local_reset": "LR",
    "upstream_remote_reset": "UR",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_overflow": "UO",
    "no_route_found": "NR",
    "delay_injected": "DI",
    "fault_injected": "FI",
    "rate_limited": "RL",
    "rate_limit_service_error": "RLSE",
    "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX",
    "stream_idle_timeout": "SI",
    "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE",
    "upstream_max_stream_duration_reached": "UMSDR",
    "response_from_cache_filter": "RFCF",
    "no_filter_config_found": "NFCF",
    "duration_timeout": "DT",
    "upstream_protocol_error": "UPE",
    "no_cluster_found": "NC",
    "overload_manager": "OM",
    "dns_resolution_failure": "DF",
    "downstream_remote_reset": "DR",
}
"""Envoy's short names (%RESPONSE_FLAGS%)."""

DECIDED = "sluice:"
"""Begins the response code details of what the callout refused; the reason follows."""

UPSTREAM = "via_upstream"
"""Response code details of what a model server answered."""

_DETAILS = (
    ("local_rate_limited", "rate_limited"),
    ("ext_proc", "decision_unavailable"),
    ("no_healthy_upstream", "no_healthy_endpoint"),
    ("cluster_not_found", "unknown_service"),
    ("upstream_response_timeout", "model_timeout"),
    ("upstream_per_try_timeout", "model_timeout"),
    ("max_duration_timeout", "model_timeout"),
    ("stream_idle_timeout", "idle_timeout"),
    ("upstream_reset_before_response_started", "model_unreachable"),
    ("downstream", "client_left"),
    ("http1.", "bad_request"),
    ("http2.", "bad_request"),
)
"""Beginnings of Envoy's response code details, and the reasons that its answers give to clients."""

OVERFLOW = "overloaded"
GATEWAY = "gateway"
"""The reason of whatever else Envoy answers by itself."""

REASONS = frozenset({OVERFLOW, GATEWAY, *(reason for _, reason in _DETAILS)})
"""Reasons that are Envoy's, beside those of decisions."""


@dataclass(slots=True)
class Entry:
    """One request. The fields are those of the log's JSON line, in its order.

    Where a request did not come so far, text is empty and a number null.
    """

    time: datetime
    method: str
    path: str
    protocol: str
    status: int
    flags: str
    reason: str
    subject: str
    model: str
    version: str
    canary: bool
    request_bytes: int
    response_bytes: int
    duration_ms: float
    upstream_ms: float | None
    upstream: str
    request_id: str
    user_agent: str
    trace_id: str


def entry(message: HTTPAccessLogEntry) -> Entry:
    """What there is to show of a report."""
    common, request, response = message.common_properties, message.request, message.response
    headers = request.request_headers
    details = response.response_code_details
    model, _, version = headers.get("x-model-service", "").partition("/")
    start = common.start_time
    return Entry(
        time=datetime.fromtimestamp(start.seconds + start.nanos // 1000 / 1e6, UTC),
        method=_name(_METHODS, request.request_method),
        path=_path(headers.get("x-sluice-path") or request.path),
        protocol=_name(_PROTOCOLS, message.protocol_version),
        status=response.response_code.value,
        flags=_flags(common.response_flags.SerializeToString()),
        reason=_reason(details, headers),
        subject=headers.get("x-sluice-subject", "") if version else _refused_subject(details),
        model=model or common.route_name,
        version=version,
        canary="x-sluice-canary" in headers,
        request_bytes=request.request_body_bytes,
        response_bytes=response.response_body_bytes,
        duration_ms=_micros(common.duration) / 1000,
        upstream_ms=_upstream(common),
        upstream=_address(common.upstream_remote_address.SerializeToString()),
        request_id=request.request_id[:MAX_TEXT],
        user_agent=request.user_agent[:MAX_TEXT],
        trace_id=headers.get("traceparent", "")[3:35],
    )


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


def _path(path: str) -> str:
    """Without the query, where clients put what is nobody else's business."""
    return path.partition("?")[0][:MAX_TEXT]


@lru_cache(1024)
def _flags(encoded: bytes) -> str:
    flags = ResponseFlags.FromString(encoded)
    return ",".join(_FLAGS[field.name] for field, _ in flags.ListFields())


def _reason(details: str, headers: Mapping[str, str]) -> str:
    if details == UPSTREAM:
        return headers.get("x-sluice-reason", "")
    if details.startswith(DECIDED):
        return details.removeprefix(DECIDED).partition(":")[0]
    return _envoys_reason(details)


@lru_cache(1024)
def _envoys_reason(details: str) -> str:
    for beginning, reason in _DETAILS:
        if details.startswith(beginning):
            return reason
    return OVERFLOW if "overflow" in details else GATEWAY


def _refused_subject(details: str) -> str:
    """Whom the callout refused, where it knew."""
    if not details.startswith(DECIDED):
        return ""
    return details.removeprefix(DECIDED).partition(":")[2]


def _micros(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + duration.nanos // 1000


def _upstream(common: AccessLogCommon) -> float | None:
    """Milliseconds from the last byte sent to the first one received; at least 0."""
    received = _micros(common.time_to_first_upstream_rx_byte)
    if not received:
        return None
    sent = _micros(common.time_to_last_upstream_tx_byte)
    return max(0, received - sent) / 1000


@lru_cache(1024)
def _address(encoded: bytes) -> str:
    address = LogAddress.FromString(encoded)
    if address.HasField("pipe"):
        return address.pipe.path
    socket = address.socket_address
    if not socket.address:
        return ""
    host = f"[{socket.address}]" if ":" in socket.address else socket.address
    return f"{host}:{socket.port_value}"
