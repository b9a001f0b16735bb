"""A finished request as Envoy reports it (envoy.data.accesslog.v3), cut to what is shown of it.

Nothing here ever holds a credential: of the headers Envoy sends only those that Sluice set, and of
the path the part before the query.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from extproc.rpc import StatusCode
from protos.accesslog_pb2 import AccessLogCommon, HTTPAccessLogEntry, LogAddress, ResponseFlags
from sluice.contract import headers as names
from sluice.contract.local_replies import (
    VIA_UPSTREAM,
    local_reply_reason,
    split_callout_details,
)
from sluice.contract.names import split_cluster_name
from sluice.contract.paths import OIP_GRPC_PREFIX

MAX_TEXT = 512
"""Characters of a path or a user agent: clients choose them, and a line must stay short."""

MAX_OUTCOMES = 10_000
"""Outcomes remembered. A refusal's has its subject among what tells it apart."""

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

_STATUSES = {str(int(status)): status for status in StatusCode}
"""By how `grpc-status` has them."""

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_MICROS = {"H": 3.6e9, "M": 6e7, "S": 1e6, "m": 1e3, "u": 1, "n": 1e-3}
"""Units of `grpc-timeout` (gRPC over HTTP/2)."""

_EARLY = 10_000
"""Microseconds by which a server may take a deadline for passed too soon: its timers are coarse."""


class GrpcCall(NamedTuple):
    """How a gRPC client's call ended.

    `status`: what the model server said; None where it said nothing. `checked`: the callout has
    seen that its messages can be read. `expired`: it did not end well, and only when the deadline
    that the client had set had passed.
    """

    status: int | None
    checked: bool
    expired: bool


NO_CALL = GrpcCall(None, checked=False, expired=False)


@dataclass(frozen=True, slots=True, eq=False)
class RequestOutcome:
    """What many requests have in common: all that end the same way share one of these."""

    method: str
    protocol: str
    status: int
    flags: str
    reason: str
    model: str
    version: str
    canary: bool
    upstream: str
    call: GrpcCall = NO_CALL


@dataclass(slots=True)
class AccessLogEntry:
    """One request. Text is empty, and a time null, where the request did not come so far.

    `seconds` and `micros` are the time it began, since the epoch; durations are in microseconds.
    """

    outcome: RequestOutcome
    seconds: int
    micros: int
    path: str
    subject: str
    request_bytes: int
    response_bytes: int
    duration: int
    upstream_time: int | None
    request_id: str
    user_agent: str
    trace_id: str


class Reader:
    """Reads reports. Outcomes are remembered, as reading one costs more than all the rest."""

    def __init__(self) -> None:
        self._outcomes: dict[object, RequestOutcome] = {}

    def entry(self, message: HTTPAccessLogEntry) -> AccessLogEntry:
        """What there is to show of a report."""
        common, request, response = message.common_properties, message.request, message.response
        headers = request.request_headers
        details = response.response_code_details
        service, reason = headers.get(names.MODEL_SERVICE, ""), headers.get(names.REASON, "")
        start, duration, flags = common.start_time, common.duration, common.response_flags
        micros = duration.seconds * 1_000_000 + duration.nanos // 1000
        # A gRPC server that has sent no message ends a call by headers alone.
        ended = response.response_trailers or response.response_headers
        call = _call(message, micros) if ended or flags else NO_CALL
        key = (
            request.request_method, message.protocol_version, response.response_code, details,
            flags, common.upstream_remote_address, common.route_name, service, reason, call,
        )  # fmt: skip
        outcome = self._outcomes.get(key)
        if outcome is None:
            if len(self._outcomes) >= MAX_OUTCOMES:
                self._outcomes.clear()
            outcome = self._outcomes[key] = _outcome(message, service, reason, call)
        return AccessLogEntry(
            outcome,
            start.seconds,
            start.nanos // 1000,
            (headers.get(names.PATH) or request.path).partition("?")[0][:MAX_TEXT],
            headers.get(names.SUBJECT, "") if service else _refused_subject(details),
            request.request_body_bytes,
            response.response_body_bytes,
            micros,
            _upstream_time(common) if outcome.upstream else None,
            request.request_id[:MAX_TEXT],
            request.user_agent[:MAX_TEXT],
            headers.get(names.TRACEPARENT, "")[3:35],
        )


def _outcome(
    message: HTTPAccessLogEntry, service: str, reason: str, call: GrpcCall
) -> RequestOutcome:
    common, response = message.common_properties, message.response
    status = UInt32Value.FromString(response.response_code).value
    model, version = split_cluster_name(service)
    return RequestOutcome(
        method=_name(_METHODS, message.request.request_method),
        protocol=_name(_PROTOCOLS, message.protocol_version),
        status=status,
        flags=_flags(ResponseFlags.FromString(common.response_flags)),
        reason=_reason(response.response_code_details, status, reason),
        model=model or common.route_name,
        version=version,
        canary=reason.startswith("canary_"),
        upstream=_address(LogAddress.FromString(common.upstream_remote_address)),
        call=call,
    )


def _call(message: HTTPAccessLogEntry, duration: int) -> GrpcCall:
    """A converted request was no call of its client's, and Envoy's own status is not the server's.

    `duration` is in microseconds.
    """
    request, response = message.request, message.response
    headers, status = request.request_headers, None
    if response.response_code_details == VIA_UPSTREAM and names.PATH not in headers:
        status = _grpc_status(response.response_trailers or response.response_headers)
    expired = status != StatusCode.OK and _expired(headers.get(names.GRPC_TIMEOUT, ""), duration)
    return GrpcCall(status, request.path.startswith(OIP_GRPC_PREFIX), expired)


def _grpc_status(headers: Mapping[str, str]) -> int | None:
    """UNKNOWN for what is not gRPC's, as its clients take it."""
    text = headers.get(names.GRPC_STATUS)
    if text is None:
        return None
    return _STATUSES.get(text, StatusCode.UNKNOWN)


def _expired(timeout: str, duration: int) -> bool:
    found = _TIMEOUT.fullmatch(timeout)
    return found is not None and int(found[1]) * _MICROS[found[2]] <= duration + _EARLY


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


def _flags(flags: ResponseFlags) -> str:
    return ",".join(_FLAGS[field.name] for field, _ in flags.ListFields())


def _reason(details: str, status: int, admitted: str) -> str:
    """The reason as the client reads it; `admitted` is the reason of the request's admission."""
    if details == VIA_UPSTREAM:
        return admitted
    refused = split_callout_details(details)
    return local_reply_reason(details, status) if refused is None else refused[0]


def _refused_subject(details: str) -> str:
    """The subject of a request that the callout refused; empty where it is not known."""
    refused = split_callout_details(details)
    return "" if refused is None else refused[1]


def _upstream_time(common: AccessLogCommon) -> int | None:
    """From the last byte sent to the first one received; at least 0."""
    received = _micros(common.time_to_first_upstream_rx_byte)
    return max(0, received - _micros(common.time_to_last_upstream_tx_byte)) if received else None


def _micros(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + duration.nanos // 1000


def _address(address: LogAddress) -> str:
    if address.HasField("pipe"):
        return address.pipe.path
    socket = address.socket_address
    if not socket.address:
        return ""
    host = f"[{socket.address}]" if ":" in socket.address else socket.address
    return f"{host}:{socket.port_value}"
