"""Envoy's own answers (503, 504, 429 ...) as problem documents (RFC 9457), like the callout's.

An answer that the callout gave is left as it is: its response code details are empty or begin with
`sluice`, whereas Envoy always says in them what went wrong.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ExtensionFilter,
    HeaderFilter,
)
from envoy_data_plane.envoy.config.core.v3 import DataSource, SubstitutionFormatString
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds.resources.messages import header, pack

PROBLEM = "application/problem+json"

CONVERTED = "x-sluice-path"
"""Request header that the callout sets where it converts, and no client can."""

_INSTANCE = '"instance": "urn:request:%REQ(X-REQUEST-ID)%"'
"""A client cannot write into it: the id is Envoy's own, in place of any that was sent."""

_CONTENT_TOO_LARGE = "Content Too Large"
"""413 in RFC 9110 section 15.5.14; Python's `HTTPStatus` has the older name until 3.13."""


@dataclass(frozen=True, slots=True)
class LocalReply:
    """What clients read when `when` (CEL over Envoy's attributes) holds.

    Each code that Envoy may answer with has a LocalReply of its own, as its body names the code.
    `identified`: by then the request has its id.
    """

    when: str
    status: HTTPStatus
    reason: str
    detail: str
    identified: bool = True

    def problem(self) -> str:
        """The body, in Envoy's format: a problem document with the extension member `reason`."""
        too_large = self.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        members = {
            "type": "about:blank",
            "title": _CONTENT_TOO_LARGE if too_large else self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "reason": self.reason,
        }
        text = _escaped(json.dumps(members))
        return f"{text[:-1]}, {_INSTANCE}}}" if self.identified else text


def _details(*beginnings: str) -> str:
    return " || ".join(f"response.code_details.startsWith('{text}')" for text in beginnings)


_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE

# Texts of source/common/stream_info/utility.h (ResponseCodeDetailValues) and of the filters.
REPLIES = (
    LocalReply(
        _details("local_rate_limited"),
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        "This gateway admits no more requests at the moment.",
    ),
    LocalReply(
        _details("ext_proc"),
        _UNAVAILABLE,
        "decision_unavailable",
        "The gateway could not decide on this request.",
    ),
    LocalReply(
        _details("no_healthy_upstream"),
        _UNAVAILABLE,
        "no_healthy_endpoint",
        "No endpoint of the model is healthy.",
    ),
    LocalReply(
        _details("cluster_not_found"),
        _UNAVAILABLE,
        "unknown_service",
        "The model is not available here.",
    ),
    LocalReply(
        "response.code_details.contains('overflow')",
        _UNAVAILABLE,
        "overloaded",
        "The model has as many requests as it is allowed.",
    ),
    LocalReply(
        _details("response_timeout", "upstream_per_try_timeout", "max_duration_timeout"),
        HTTPStatus.GATEWAY_TIMEOUT,
        "model_timeout",
        "The model did not answer in time.",
    ),
    LocalReply(
        _details("stream_idle_timeout") + " && response.code == 504",
        HTTPStatus.GATEWAY_TIMEOUT,
        "idle_timeout",
        "The model sent nothing for too long.",
    ),
    LocalReply(
        _details("upstream_reset_before_response_started"),
        _UNAVAILABLE,
        "model_unreachable",
        "The connection to the model failed.",
    ),
)

_BY_STATUS = {
    HTTPStatus.BAD_REQUEST: ("bad_request", "The request is not valid HTTP for this gateway."),
    HTTPStatus.FORBIDDEN: ("forbidden", "The gateway does not accept this request."),
    HTTPStatus.NOT_FOUND: ("not_found", "There is nothing at this address."),
    HTTPStatus.REQUEST_TIMEOUT: ("request_timeout", "The request was not sent in time."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("body_too_large", "The body is too large."),
    HTTPStatus.UPGRADE_REQUIRED: ("upgrade_required", "The gateway expects another protocol."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        "headers_too_large",
        "The request's headers are too large.",
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("gateway_error", "The gateway failed."),
    HTTPStatus.BAD_GATEWAY: ("bad_gateway", "The model's answer is not valid HTTP."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("unavailable", "The gateway cannot serve this request now."),
    HTTPStatus.GATEWAY_TIMEOUT: ("timeout", "There was no answer in time."),
}

_OWN = "response.code_details != '' && !response.code_details.startsWith('sluice')"


def local_reply_config(expose_reason: bool) -> LocalReplyConfig:
    """The HttpConnectionManager's local_reply_config."""
    replies = (*REPLIES, *_general())
    return LocalReplyConfig(
        mappers=[mapper for reply in replies for mapper in _mappers(reply, expose_reason)]
    )


def _general() -> Iterator[LocalReply]:
    for status, (reason, detail) in _BY_STATUS.items():
        when = f"{_OWN} && response.code == {status.value}"
        # What cannot be read as a request has no id.
        yield LocalReply(when, status, reason, detail, identified=False)


def _mappers(reply: LocalReply, expose_reason: bool) -> Iterator[ResponseMapper]:
    headers = [header("x-sluice-reason", reply.reason)] if expose_reason else []
    condition = _expression(reply.when)
    # Envoy puts the body of a local reply to a gRPC call into grpc-message, for people to read.
    yield ResponseMapper(
        filter=AccessLogFilter(and_filter=AndFilter(filters=[condition, *_is_grpc()])),
        body_format_override=_text(_escaped(reply.detail)),
        headers_to_add=headers,
    )
    yield ResponseMapper(
        filter=condition,
        status_code=reply.status.value,
        body_format_override=_text(reply.problem(), PROBLEM),
        headers_to_add=headers,
    )


def _text(form: str, content_type: str = "") -> SubstitutionFormatString:
    source = DataSource(inline_string=form)
    return SubstitutionFormatString(text_format_source=source, content_type=content_type)


def _escaped(text: str) -> str:
    # A percent sign would begin a command operator.
    return text.replace("%", "%%")


def _expression(expression: str) -> AccessLogFilter:
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=pack(ExpressionFilter(expression=expression)),
        )
    )


def _is_grpc() -> list[AccessLogFilter]:
    """Whether it is the client who speaks gRPC, and not the gateway in its place."""
    content_type = StringMatcher(prefix="application/grpc")
    return [
        _header_filter(HeaderMatcher(name="content-type", string_match=content_type)),
        _header_filter(HeaderMatcher(name=CONVERTED, present_match=True, invert_match=True)),
    ]


def _header_filter(matcher: HeaderMatcher) -> AccessLogFilter:
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))
