"""Parses Envoy's reports of finished requests (envoy.data.accesslog.v3)."""

import re
from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from extproc.rpc import StatusCode
from extproc.telemetry.entry import (
    MAX_OUTCOMES,
    NO_GRPC_OUTCOME,
    AccessLogEntry,
    GrpcOutcome,
    Progress,
    RequestOutcome,
)
from protos.accesslog_pb2 import (
    AccessLogCommon,
    HTTPAccessLogEntry,
    HTTPResponseProperties,
    LogAddress,
    ResponseFlags,
)
from sluice.config.addresses import join_host_port
from sluice.config.gateway import MIN_STREAM_BUFFER
from sluice.contract import headers as names
from sluice.contract.local_replies import (
    VIA_UPSTREAM,
    local_reply_reason,
    local_reply_status,
)
from sluice.contract.names import split_cluster_name
from sluice.contract.paths import OIP_GRPC_PREFIX
from sluice.contract.request_end import RequestEnd

MAX_TEXT = 512
"""Maximum characters of a path, user agent or request id. Clients choose the length of these."""

_METHODS = (
    "OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
)  # fmt: skip
"""Names of methods, by their number in envoy.config.core.v3.RequestMethod."""

_PROTOCOLS = ("", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3")
"""Names of protocols, by their number in HTTPAccessLogEntry.HTTPVersion."""

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
"""Envoy's short names of response flags (%RESPONSE_FLAGS%), by field of ResponseFlags."""

_STATUSES = {str(int(status)): status for status in StatusCode}
"""gRPC statuses, by their text in `grpc-status`."""

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_MICROS = {"H": 3.6e9, "M": 6e7, "S": 1e6, "m": 1e3, "u": 1, "n": 1e-3}
"""Microseconds by unit of `grpc-timeout` (gRPC over HTTP/2)."""

_DEADLINE_TOLERANCE = 10_000
"""Microseconds by which a server with coarse timers may end a call before its deadline."""


class ReportParser:
    """Parses reports. Caches outcomes, which take more time to create than all other fields."""

    def __init__(self) -> None:
        self._outcomes: dict[object, RequestOutcome] = {}

    def parse(self, report: HTTPAccessLogEntry) -> AccessLogEntry:
        """Return the access log entry for a report."""
        common, request, response = report.common_properties, report.request, report.response
        # Envoy removes a client's internal headers and request id before it chooses a route. If it
        # refuses the request before, they are the client's.
        routed = bool(common.route_name)
        headers = request.request_headers if routed else _NO_HEADERS
        details = response.response_code_details
        service, reason = headers.get(names.MODEL_SERVICE, ""), headers.get(names.REASON, "")
        start, duration, flags = common.start_time, common.duration, common.response_flags
        duration_us = duration.seconds * 1_000_000 + duration.nanos // 1000
        # If a gRPC server sends no message, the headers contain the status (Trailers-Only).
        ended = response.response_trailers or response.response_headers
        grpc = _grpc_outcome(report, duration_us) if ended or flags else NO_GRPC_OUTCOME
        end = _BY_MODEL if details == VIA_UPSTREAM else _end(response, ended)
        method = headers.get(names.METHOD) or _name(_METHODS, request.request_method)
        # Not the details and the subject of a refusal: clients choose them.
        key = (
            method, report.protocol_version, response.response_code, flags,
            common.upstream_remote_address, common.route_name, service, reason, grpc,
            end.reason, end.cause, end.rule, end.version,
        )  # fmt: skip
        outcome = self._outcomes.get(key)
        if outcome is None:
            if len(self._outcomes) >= MAX_OUTCOMES:
                self._outcomes.clear()
            outcome = self._outcomes[key] = _outcome(report, method, service, reason, grpc, end)
        return AccessLogEntry(
            outcome,
            start.seconds,
            start.nanos // 1000,
            (headers.get(names.PATH) or request.path).partition("?")[0][:MAX_TEXT],
            headers.get(names.SUBJECT, "") if service else end.subject,
            end.details,
            request.request_body_bytes,
            response.response_body_bytes,
            duration_us,
            _upstream_us(common) if outcome.upstream else None,
            _progress(common, response.response_body_bytes),
            request.request_id[:MAX_TEXT] if routed else "",
            request.user_agent[:MAX_TEXT],
            headers.get(names.TRACEPARENT, "")[3:35],
        )


_NO_HEADERS: Mapping[str, str] = {}

_BY_MODEL = RequestEnd("")
"""The end of a request that the model server has answered: it has the reason of its admission."""


def _outcome(
    report: HTTPAccessLogEntry,
    method: str,
    service: str,
    admitted: str,
    grpc: GrpcOutcome,
    end: RequestEnd,
) -> RequestOutcome:
    """`admitted` is the reason of the admission, if the request was admitted."""
    common = report.common_properties
    model, version = split_cluster_name(service)
    return RequestOutcome(
        method=method,
        protocol=_name(_PROTOCOLS, report.protocol_version),
        status=_status(report.response),
        flags=_flags(ResponseFlags.FromString(common.response_flags)),
        reason=end.reason or admitted,
        model=model or common.route_name,
        version=version or end.version,
        canary=admitted.startswith("canary_"),
        upstream=_address(LogAddress.FromString(common.upstream_remote_address)),
        grpc=grpc,
        cause=end.cause,
        rule=end.rule,
    )


def _end(response: HTTPResponseProperties, headers: Mapping[str, str]) -> RequestEnd:
    """Return why the callout or Envoy ended a request. `headers` are those of the response."""
    details = response.response_code_details
    refused = RequestEnd.parse(details)
    if refused is not None:
        return refused
    status = local_reply_status(_status(response), _grpc_status(headers))
    return RequestEnd(
        local_reply_reason(details, status),
        rule=response.response_headers.get(names.LIMIT, "")[:MAX_TEXT],
        details=details[:MAX_TEXT],
    )


def _status(response: HTTPResponseProperties) -> int:
    return UInt32Value.FromString(response.response_code).value


def _grpc_outcome(report: HTTPAccessLogEntry, duration_us: int) -> GrpcOutcome:
    """Return the outcome of a gRPC client's call.

    It has a status only if the model server sent the status to the client. The client of a
    converted request got no gRPC status.
    """
    request, response = report.request, report.response
    headers, status = request.request_headers, None
    if response.response_code_details == VIA_UPSTREAM and names.PATH not in headers:
        status = _grpc_status(response.response_trailers or response.response_headers)
    timeout = headers.get(names.GRPC_TIMEOUT, "")
    expired = status != StatusCode.OK and _deadline_passed(timeout, duration_us)
    return GrpcOutcome(status, request.path.startswith(OIP_GRPC_PREFIX), expired)


def _grpc_status(headers: Mapping[str, str]) -> int | None:
    """Return `grpc-status`; None if it is missing, UNKNOWN if gRPC does not define the value."""
    text = headers.get(names.GRPC_STATUS)
    if text is None:
        return None
    return _STATUSES.get(text, StatusCode.UNKNOWN)


def _deadline_passed(timeout: str, duration_us: int) -> bool:
    match = _TIMEOUT.fullmatch(timeout)
    if match is None:
        return False
    return int(match[1]) * _MICROS[match[2]] <= duration_us + _DEADLINE_TOLERANCE


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


def _flags(flags: ResponseFlags) -> str:
    return ",".join(_FLAGS[field.name] for field, _ in flags.ListFields())


def _progress(common: AccessLogCommon, response_bytes: int) -> Progress:
    """Return how far the request got. Envoy sets a time only if the event happened."""
    received = common.HasField("time_to_last_rx_byte")
    started = common.HasField("time_to_first_upstream_rx_byte")
    received_first = received and (
        not started
        or _micros(common.time_to_last_rx_byte) <= _micros(common.time_to_first_upstream_rx_byte)
    )
    ended = common.HasField("time_to_last_upstream_rx_byte")
    short = started and not ended and response_bytes < MIN_STREAM_BUFFER
    return Progress(received, received_first, started, short)


def _upstream_us(common: AccessLogCommon) -> int | None:
    """Return the time from the last byte sent to the first byte received, at least 0.

    None if the model server sent no byte.
    """
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
    return join_host_port(socket.address, socket.port_value)
