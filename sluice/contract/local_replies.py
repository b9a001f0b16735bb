"""Local replies: responses that Envoy generates, with their status, reason and text.

Envoy (`local_reply_config`) and the callout both map `response_code_details` to a reason: Envoy for
the client's problem document, the callout for the access log. Both use the tables of this module,
in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluice.contract.grpc import StatusCode
from sluice.contract.headers import MAX_HEADERS, MAX_HEADERS_KIB
from sluice.contract.reasons import CONVERSION_REFUSALS, DECISION_REFUSALS, STATUS, Reason

VIA_UPSTREAM: Final = "via_upstream"
"""`response_code_details` of a model server's response."""

ORIGIN_POLICY: Final = "foreign_origin"
"""Name of the policy of Envoy's RBAC filter that refuses WebSocket handshakes by their origin."""


@dataclass(frozen=True, slots=True)
class LocalReply:
    """One row of `LOCAL_REPLIES`.

    The row applies if `response_code_details` match and the status of Envoy is not `unless`.

    Details match if they contain `contains`, or start with one of `prefixes` if `contains` is empty
    (source/common/stream_info/utility.h, ResponseCodeDetailValues). `status` is the status that the
    client gets.
    """

    reason: Reason
    status: int
    detail: str
    prefixes: tuple[str, ...] = ()
    contains: str = ""
    unless: int | None = None
    identified: bool = True
    """Whether the request already has an id when Envoy sends the reply."""
    grpc_status: int | None = None
    """The gRPC status of the reply to a gRPC client; None: that of Envoy."""

    def matches(self, details: str, status: int) -> bool:
        """Whether the row applies to a response with these details and this status."""
        if status == self.unless:
            return False
        if self.contains:
            return self.contains in details
        return details.startswith(self.prefixes)


_REQUEST_ERRORS: Final = (
    (
        Reason.BAD_REQUEST,
        400,
        "The name of a header has an underscore.",
        ("http1.unexpected_underscore", "http2.unexpected_underscore"),
    ),
    (
        Reason.BAD_REQUEST,
        400,
        "A header has a character that HTTP does not allow.",
        ("http1.invalid_characters",),
    ),
    (
        Reason.BAD_REQUEST,
        400,
        "The path has an escaped slash (%2F or %5C), or is not valid.",
        ("path_normalization_failed",),
    ),
    (Reason.BAD_REQUEST, 400, "The request has no Host header.", ("missing_host_header",)),
    (
        Reason.BAD_REQUEST,
        400,
        "The Host header, or the host of the URL, is not valid.",
        ("http.invalid_authority",),
    ),
    (Reason.BAD_REQUEST, 400, "The scheme of the URL is not valid.", ("http1.invalid_scheme",)),
    (
        Reason.BAD_REQUEST,
        400,
        "The request has both Content-Length and Transfer-Encoding: send only one.",
        ("http1.content_length_and_chunked_not_allowed",),
    ),
    (
        Reason.NOT_IMPLEMENTED,
        501,
        "The gateway supports no other Transfer-Encoding than chunked.",
        ("http1.invalid_transfer_encoding",),
    ),
    (
        Reason.HEADERS_TOO_LARGE,
        431,
        f"The request has more than {MAX_HEADERS} headers.",
        ("http1.too_many_headers", "http2.too_many_headers"),
    ),
    (
        Reason.HEADERS_TOO_LARGE,
        431,
        f"The request's headers are larger than {MAX_HEADERS_KIB} KiB.",
        ("http1.headers_too_large", "http2.header_list_size_too_large"),
    ),
    (
        Reason.UPGRADE_REQUIRED,
        426,
        "The gateway requires HTTP/1.1 or HTTP/2.",
        ("low_version",),
    ),
    (
        Reason.FORBIDDEN,
        403,
        "The gateway does not allow this upgrade of the connection, or CONNECT.",
        ("upgrade_failed",),
    ),
)
"""Requests that Envoy refuses before all filters. Over HTTP/2, it resets the stream for most of
them, without a response; the log has the reason."""

LOCAL_REPLIES: Final = (
    LocalReply(
        Reason.RATE_LIMITED,
        429,
        "The gateway's request rate limit is exceeded.",
        ("local_rate_limited",),
    ),
    LocalReply(
        Reason.ORIGIN_NOT_ALLOWED,
        403,
        "The model accepts no WebSocket from this origin.",
        (f"rbac_access_denied_matched_policy[{ORIGIN_POLICY}]",),
    ),
    LocalReply(
        Reason.GATEWAY_OVERLOADED,
        503,
        "The gateway has too little memory for more requests.",
        ("overload",),
        # Envoy refuses the request before it replaces the request id of the client.
        identified=False,
    ),
    LocalReply(
        Reason.UNKNOWN_MODEL,
        404,
        "no model has this path",
        # The group of the Envoy does not serve the model. With status 200, Envoy says that it is
        # live.
        ("direct_response",),
        unless=200,
        grpc_status=StatusCode.NOT_FOUND,
    ),
    LocalReply(
        Reason.NOT_READY,
        503,
        "No worker of the gateway is ready.",
        ("health_check_failed",),
    ),
    LocalReply(
        Reason.DECISION_UNAVAILABLE,
        503,
        "The gateway could not decide on this request.",
        ("ext_proc",),
    ),
    LocalReply(
        Reason.HEADERS_TOO_LARGE,
        431,
        "The request's headers are too large.",
        # The headers of the client, with those that the callout adds, exceed a limit of Envoy.
        ("header_mutation_result_exceeds_limit",),
    ),
    LocalReply(
        Reason.NO_HEALTHY_ENDPOINT,
        503,
        "No endpoint of the model is healthy.",
        ("no_healthy_upstream",),
    ),
    LocalReply(
        Reason.RESPONSE_TOO_LARGE,
        502,
        "The model's response is too large to convert.",
        ("response_payload_too_large",),
    ),
    LocalReply(Reason.UNKNOWN_SERVICE, 503, "The model is not available.", ("cluster_not_found",)),
    LocalReply(
        Reason.OVERLOADED,
        503,
        "The model already has the maximum number of requests.",
        contains="overflow",
    ),
    LocalReply(
        Reason.MODEL_TIMEOUT,
        504,
        "The model did not respond in time.",
        ("response_timeout", "upstream_per_try_timeout", "max_duration_timeout"),
    ),
    LocalReply(
        Reason.IDLE_TIMEOUT,
        504,
        "The model sent no data within the idle timeout.",
        ("stream_idle_timeout",),
        # With status 408, the client has not sent its whole request, so the model is not the cause.
        unless=408,
    ),
    LocalReply(
        Reason.MODEL_TLS_FAILED,
        503,
        "The TLS connection to the model failed.",
        contains="TLS_error:",
    ),
    LocalReply(
        Reason.MODEL_CREDENTIAL_MISSING,
        503,
        "The gateway has no credentials for the model yet.",
        ("failed_to_inject_credential",),
    ),
    LocalReply(
        Reason.MODEL_UNREACHABLE,
        503,
        "The connection to the model failed.",
        # Envoy cannot repeat a body that it does not hold. Its status would be 507.
        (
            "upstream_reset_before_response_started",
            "request_payload_exceeded_retry_buffer_limit",
        ),
    ),
    *(
        LocalReply(reason, status, detail, prefixes, identified=False)
        for reason, status, detail, prefixes in _REQUEST_ERRORS
    ),
)
"""Local replies by `response_code_details`. The first row that matches applies."""

LOCAL_REPLIES_BY_STATUS: Final[Mapping[int, tuple[Reason, str]]] = {
    400: (Reason.BAD_REQUEST, "The request is not valid HTTP."),
    403: (Reason.FORBIDDEN, "The gateway does not accept this request."),
    404: (Reason.NOT_FOUND, "The gateway has no route for this request."),
    408: (Reason.REQUEST_TIMEOUT, "The client did not send the request in time."),
    413: (Reason.BODY_TOO_LARGE, "The body is too large."),
    426: (Reason.UPGRADE_REQUIRED, "The gateway requires another protocol version."),
    431: (Reason.HEADERS_TOO_LARGE, "The request's headers are too large."),
    500: (Reason.GATEWAY_ERROR, "The gateway had an internal error."),
    502: (Reason.BAD_GATEWAY, "The model's response is not valid HTTP."),
    503: (Reason.UNAVAILABLE, "The gateway cannot serve this request now."),
    501: (Reason.NOT_IMPLEMENTED, "The gateway does not implement a feature of the request."),
    504: (Reason.TIMEOUT, "The gateway got no response in time."),
}
"""Reason and text by status, for local replies that match no row of `LOCAL_REPLIES`."""

GATEWAY_REASONS: Final = frozenset(
    {
        *DECISION_REFUSALS,
        *CONVERSION_REFUSALS,
        Reason.DECISION_UNAVAILABLE,
        Reason.GATEWAY_OVERLOADED,
        Reason.MODEL_CREDENTIAL_MISSING,
        Reason.NOT_READY,
        Reason.ORIGIN_NOT_ALLOWED,
        *(reason for reason, _ in LOCAL_REPLIES_BY_STATUS.values()),
    }
)
"""Reasons that do not show whether the model server works. Envoy's response flags may show it."""


STATUS_BY_REASON: Final[Mapping[str, int]] = {
    **{reason: status for status, (reason, _) in LOCAL_REPLIES_BY_STATUS.items()},
    **{reply.reason: reply.status for reply in LOCAL_REPLIES},
    **{str(reason): status for reason, status in STATUS.items()},
}
"""The HTTP status of every refusal and local reply. Statuses of one reason have one class."""

HANDSHAKE_DETAILS: Final = "websocket_handshake_unsuccessful"
"""`response_code_details` of a model server's response that accepts no WebSocket (200, 301 ...)."""

READY_DETAILS: Final = "health_check_ok"
"""`response_code_details` of the answer that the gateway is ready (`paths.READY`)."""

_LOG_REASONS: Final = (
    ((READY_DETAILS, "direct_response"), Reason.GATEWAY_STATUS),
    (("cors_response",), Reason.CORS_PREFLIGHT),
    (("downstream", "http2.remote_re"), Reason.CLIENT_LEFT),
    (("upstream_reset_after_response_started",), Reason.MODEL_UNREACHABLE),
    # A gRPC client gets UNKNOWN for 413 and 408, so the status does not distinguish them.
    (("request_payload_too_large",), Reason.BODY_TOO_LARGE),
)
"""Reasons by beginnings of the details, for requests that end without a local reply of the tables
above: the gateway has answered for itself, or a preflight (CORS), the client has closed the
connection or reset the stream, or the response has begun."""

_CODEC_DETAILS: Final = ("http1.", "http2.")
_CODEC_STATUSES: Final = frozenset({426, 431, 501})
"""Statuses of Envoy's codecs that have a reason of their own. All others are bad requests."""

_HTTP_STATUS: Final[Mapping[int, int]] = {
    StatusCode.UNKNOWN: 408,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.UNIMPLEMENTED: 404,
    StatusCode.NOT_FOUND: 404,
    StatusCode.INTERNAL: 400,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.UNAUTHENTICATED: 401,
}
"""The HTTP status of a local reply to a gRPC client, by its gRPC status. Envoy sends such a reply
with HTTP status 200 (source/common/grpc/status.cc). Several HTTP statuses become UNKNOWN. It maps
to 408, the only one of them that a row of `LOCAL_REPLIES` compares (`unless`)."""


def local_reply_status(status: int, grpc_status: int | None) -> int:
    """The HTTP status that a local reply would have for a client that does not speak gRPC."""
    if status != 200 or grpc_status is None:
        return status
    return _HTTP_STATUS.get(grpc_status, status)


def local_reply_reason(details: str, status: int) -> Reason:
    """The reason of a request that Envoy ended by itself, as the client and the log get it.

    `status` is that of `local_reply_status`.
    """
    for reply in LOCAL_REPLIES:
        if reply.matches(details, status):
            return reply.reason
    for prefixes, reason in _LOG_REASONS:
        if details.startswith(prefixes):
            return reason
    if details.startswith(_CODEC_DETAILS) and status not in _CODEC_STATUSES:
        return Reason.BAD_REQUEST
    return LOCAL_REPLIES_BY_STATUS.get(status, (Reason.GATEWAY_ERROR, ""))[0]
