"""Parses Envoy's reports of finished requests (`sluice.contract.report`)."""

import re
from dataclasses import dataclass
from typing import Literal

from extproc.rpc import StatusCode
from extproc.telemetry.entry import (
    MAX_OUTCOMES,
    NO_GRPC_OUTCOME,
    AccessLogEntry,
    GrpcOutcome,
    Progress,
    RequestOutcome,
)
from protos.otlp_logs_pb2 import LogRecord
from sluice.config.gateway import MIN_STREAM_BUFFER
from sluice.contract.grpc import HTTP_STATUS
from sluice.contract.local_replies import (
    STATUS_BY_REASON,
    VIA_UPSTREAM,
    local_reply_reason,
    local_reply_status,
)
from sluice.contract.names import (
    OTHER,
    UNDECIDED_ROUTE,
    VIDEO_CLUSTER,
    VIDEO_GRPC_CLUSTER,
    Placement,
    split_cluster_name,
    split_route_name,
)
from sluice.contract.paths import OIP_GRPC_PREFIX
from sluice.contract.report import (
    ABSENT,
    FIELD_SEPARATOR,
    GROUP_SEPARATOR,
    MAX_TEXT,
    OUTCOME_FIELDS,
    REQUEST_FIELDS,
)
from sluice.contract.request_end import RequestEnd

_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)
"""Methods that Envoy knows (envoy.config.core.v3.RequestMethod)."""

_OTHER_METHOD = "OTHER"

_STATUSES = {str(int(status)): status for status in StatusCode}
"""gRPC statuses, by their text in `grpc-status`."""

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_MICROS = {"H": 3.6e9, "M": 6e7, "S": 1e6, "m": 1e3, "u": 1, "n": 1e-3}
"""Microseconds by unit of `grpc-timeout` (gRPC over HTTP/2)."""

_DEADLINE_TOLERANCE = 10_000
"""Microseconds by which a server with coarse timers may end a call before its deadline."""

_LAST_OUTCOME_FIELD = len(OUTCOME_FIELDS) - 1
_LAST_REQUEST_FIELD = len(REQUEST_FIELDS) - 1

_ANSWERED = Progress(
    request_received=True, received_first=True, response_started=True, response_short=False
)

_new = tuple.__new__
"""Creates a NamedTuple without the Python code of its class."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The first group of a report, parsed.

    `routed`: Envoy has chosen a route. `service` and `reason` are empty if the request was not
    admitted. Text is empty if it is unknown.
    """

    protocol: str
    status: int
    flags: str
    upstream: str
    model: str
    placement: Placement | Literal[""]
    service: str
    reason: str
    grpc_status: str | None
    limit: str
    method: str
    routed: bool


_Known = tuple[_Group, RequestOutcome | None]
"""A group, and the outcome of its requests that the model server answered; None if that depends on
other fields, because there are response flags or a gRPC status."""


class ReportParser:
    """Parses reports. Caches what many reports have in common, which takes the most time."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._outcomes: dict[object, RequestOutcome] = {}

    def parse(self, record: LogRecord) -> AccessLogEntry:
        """Return the access log entry for a report. Raises ValueError if it is not valid."""
        text = record.body.string_value.decode(errors="replace")
        first, _, second = text.partition(GROUP_SEPARATOR)
        (
            details, duration, duration_ms, upstream_wait, received, answered,
            received_then_answered, answered_then_ended, request_bytes, response_bytes, subject,
            trace, request_id, grpc_timeout, gateway_path, path, user_agent,
        ) = second.split(FIELD_SEPARATOR, _LAST_REQUEST_FIELD)  # fmt: skip
        group, outcome = self._known.get(first) or self._learn(first)
        if not group.routed:
            # Envoy removes a client's internal headers and request id before it chooses a route.
            # If it refuses the request before, they are the client's.
            subject = trace = request_id = grpc_timeout = gateway_path = ABSENT
        micros = int(duration) if duration != ABSENT else int(duration_ms) * 1000
        end = _BY_MODEL if details == VIA_UPSTREAM else _end(group, details)
        if outcome is None or end is not _BY_MODEL:
            called = path if gateway_path == ABSENT else ""
            grpc = _grpc_outcome(group, end, called, grpc_timeout, micros)
            outcome = self._outcome(group, end, grpc)
        if gateway_path != ABSENT:
            path = gateway_path.partition("?")[0]
        size = int(response_bytes)
        if received_then_answered != ABSENT and answered_then_ended != ABSENT:
            progress = _ANSWERED
        else:
            progress = _progress(
                received != ABSENT, received_then_answered != ABSENT, answered != ABSENT,
                ended=answered_then_ended != ABSENT, response_bytes=size,
            )  # fmt: skip
        waited = None
        if upstream_wait != ABSENT:
            waited = int(upstream_wait)
        elif progress.response_started:
            # The response began before the request was sent.
            waited = 0
        entry = (
            outcome, progress, record.time_unix_nano, micros, waited, int(request_bytes), size,
            end.details,
            "" if path == ABSENT else path,
            end.subject if not group.service else "" if subject == ABSENT else subject,
            "" if request_id == ABSENT else request_id,
            "" if user_agent == ABSENT else user_agent,
            trace[3:35],
        )  # fmt: skip
        return _new(AccessLogEntry, entry)

    def _learn(self, text: str) -> _Known:
        """Parse a first group, and cache it."""
        group = _group(text)
        if group.method == _OTHER_METHOD:
            # A client may invent any number of methods.
            text = text.rpartition(FIELD_SEPARATOR)[0]
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= MAX_OUTCOMES:
                self._known.clear()
            plain = not group.flags and group.grpc_status is None
            outcome = self._outcome(group, _BY_MODEL, NO_GRPC_OUTCOME) if plain else None
            known = self._known[text] = group, outcome
        return known

    def _outcome(self, group: _Group, end: RequestEnd, grpc: GrpcOutcome) -> RequestOutcome:
        # Not the details and the subject of a refusal: clients choose them.
        key = (group, grpc, end.reason, end.cause, end.rule, end.version, end.by_envoy)
        outcome = self._outcomes.get(key)
        if outcome is None:
            if len(self._outcomes) >= MAX_OUTCOMES:
                self._outcomes.clear()
            outcome = self._outcomes[key] = _outcome(group, end, grpc)
        return outcome


_BY_MODEL = RequestEnd("")
"""The end of a request that the model server has answered: it has the reason of its admission."""


def _group(text: str) -> _Group:
    """Parse the first group of a report. Raises ValueError if it is not valid."""
    (
        protocol, status, flags, upstream, route, service, reason, grpc_trailer, grpc_header,
        limit, gateway_method, method,
    ) = text.split(FIELD_SEPARATOR, _LAST_OUTCOME_FIELD)  # fmt: skip
    if route == ABSENT:
        service = reason = gateway_method = ABSENT
    method = method if gateway_method == ABSENT else gateway_method
    # If a gRPC server sends no message, the headers contain the status (Trailers-Only).
    grpc_status = grpc_header if grpc_trailer == ABSENT else grpc_trailer
    route_name = _value(route)
    # The Envoy of a mesh has this route for the requests of all models.
    model, placement = split_route_name(OTHER if route_name == UNDECIDED_ROUTE else route_name)
    return _Group(
        protocol=_value(protocol),
        status=int(status),
        flags=_value(flags),
        upstream=_value(upstream),
        model=model,
        placement="" if model in ("", OTHER) else placement,
        service=_value(service),
        reason=_value(reason),
        grpc_status=None if grpc_status == ABSENT else grpc_status,
        limit=_value(limit),
        method=method if method in _METHODS else _OTHER_METHOD,
        routed=route != ABSENT,
    )


_VIDEO = frozenset((VIDEO_CLUSTER, VIDEO_GRPC_CLUSTER))


def _value(field: str) -> str:
    return "" if field == ABSENT else field


def _outcome(group: _Group, end: RequestEnd, grpc: GrpcOutcome) -> RequestOutcome:
    """The outcome of a request. `group.reason` is that of the admission, if it was admitted."""
    # A request to the video service has no version: each frame is a request of its own.
    service = "" if group.service in _VIDEO else group.service
    model, version = split_cluster_name(service)
    return RequestOutcome(
        method=group.method,
        protocol=group.protocol,
        status=group.status,
        flags=group.flags,
        reason=end.reason or group.reason,
        model=model or group.model,
        version=version or end.version,
        canary=group.reason.startswith("canary_"),
        upstream=group.upstream,
        # A limit of Envoy, for example, refuses a request before any decision.
        placement="" if end.by_envoy and not group.service else group.placement,
        admission=group.reason if group.service else "",
        grpc=grpc,
        cause=end.cause,
        rule=end.rule,
        grpc_error=_grpc_error(group, end),
    )


def _grpc_error(group: _Group, end: RequestEnd) -> int | None:
    """Return the HTTP status that stands for the error of a gRPC call."""
    status = _grpc_status(group.grpc_status)
    if group.status != 200 or not status:
        return None
    return STATUS_BY_REASON.get(end.reason) or HTTP_STATUS[status]


def _end(group: _Group, details: str) -> RequestEnd:
    """Return why the callout or Envoy ended a request."""
    details = _value(details)
    refused = RequestEnd.parse(details)
    if refused is not None:
        return refused
    status = local_reply_status(group.status, _grpc_status(group.grpc_status))
    reason = local_reply_reason(details, status)
    return RequestEnd(reason, rule=group.limit, details=details[:MAX_TEXT], by_envoy=True)


def _grpc_outcome(
    group: _Group, end: RequestEnd, path: str, timeout: str, duration_us: int
) -> GrpcOutcome:
    """Return the outcome of a gRPC client's call.

    `path` is that of the client, or empty if the callout has converted the request: then the client
    does not speak gRPC, and got no gRPC status. The call has a status only if the model server sent
    it to the client.
    """
    if group.grpc_status is None and not group.flags:
        return NO_GRPC_OUTCOME
    status = None
    if end is _BY_MODEL and path:
        status = _grpc_status(group.grpc_status)
    expired = status != StatusCode.OK and _deadline_passed(timeout, duration_us)
    return GrpcOutcome(status, path.startswith(OIP_GRPC_PREFIX), expired)


def _grpc_status(text: str | None) -> int | None:
    """Return the number of a status; UNKNOWN if gRPC does not define it, None without a status."""
    if text is None:
        return None
    return _STATUSES.get(text, StatusCode.UNKNOWN)


def _deadline_passed(timeout: str, duration_us: int) -> bool:
    match = _TIMEOUT.fullmatch(timeout)
    if match is None:
        return False
    return int(match[1]) * _MICROS[match[2]] <= duration_us + _DEADLINE_TOLERANCE


def _progress(
    received: bool, received_then_answered: bool, started: bool, *, ended: bool, response_bytes: int
) -> Progress:
    """Return how far the request got."""
    received_first = received and (received_then_answered or not started)
    short = started and not ended and response_bytes < MIN_STREAM_BUFFER
    return Progress(received, received_first, started, short)
