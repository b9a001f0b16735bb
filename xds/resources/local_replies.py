"""Turns Envoy's local replies (503, 504, 429 ...) into problem documents (RFC 9457).

Responses of the callout are not changed. Their `response_code_details` are empty or begin with
`sluice`. The details of a local reply name its cause.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ExtensionFilter,
    HeaderFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValueOption,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from sluice.contract import headers as header_names
from sluice.contract.local_replies import (
    HANDSHAKE_DETAILS,
    LOCAL_REPLIES,
    LOCAL_REPLIES_BY_STATUS,
    READY_DETAILS,
    LocalReply,
)
from sluice.contract.problem import MEDIA_TYPE, problem_members
from sluice.contract.request_end import CALLOUT_DETAILS
from xds.resources import failed_handshakes
from xds.resources.data_plane_messages import of_protos, pack
from xds.resources.proto_messages import header
from xds.resources.server_status import READY_ANSWER

_INSTANCE = f'"instance": "urn:request:%REQ({header_names.REQUEST_ID.upper()})%"'
"""Safe in JSON, because Envoy replaces the request id of a client by its own."""


@dataclass(frozen=True, slots=True)
class ReplyMapping:
    """The response to the client if the condition `when` holds (CEL on Envoy's attributes).

    `identified`: the request already has an id when Envoy sends the reply.
    """

    when: str
    status: int
    reason: str
    detail: str
    identified: bool = True
    grpc_status: int | None = None

    def problem(self) -> str:
        """The problem document, as an Envoy format string."""
        text = _escaped(json.dumps(problem_members(self.status, self.reason, self.detail)))
        return f"{text[:-1]}, {_INSTANCE}}}" if self.identified else text


_IS_LOCAL_REPLY = (
    f"response.code_details != '' && !response.code_details.startsWith('{CALLOUT_DETAILS}')"
)
"""The response is a local reply, and not a response of the callout."""


def _condition(reply: LocalReply) -> str:
    """`LocalReply.matches` as a CEL expression."""
    if reply.contains:
        # The details of a refusal by the callout contain the caller's subject, which is any text.
        matched = f"{_IS_LOCAL_REPLY} && response.code_details.contains('{reply.contains}')"
    else:
        matched = " || ".join(
            f"response.code_details.startsWith('{prefix}')" for prefix in reply.prefixes
        )
    return matched if reply.unless is None else f"({matched}) && response.code != {reply.unless}"


def reply_mappings() -> Iterator[ReplyMapping]:
    """All mappings. Envoy applies the first mapping whose condition holds."""
    for reply in LOCAL_REPLIES:
        yield ReplyMapping(
            _condition(reply),
            reply.status,
            reply.reason,
            reply.detail,
            reply.identified,
            reply.grpc_status,
        )
    for status, (reason, detail) in LOCAL_REPLIES_BY_STATUS.items():
        when = f"{_IS_LOCAL_REPLY} && response.code == {status}"
        # Envoy may not have been able to parse the request, which then has no id.
        yield ReplyMapping(when, status, reason, detail, identified=False)
    when = f"{_IS_LOCAL_REPLY} && response.code >= 400"
    yield ReplyMapping(when, 500, *LOCAL_REPLIES_BY_STATUS[500], identified=False)


def local_reply_config(expose_reason: bool) -> LocalReplyConfig:
    """The HttpConnectionManager's local_reply_config."""
    mappers = [
        mapper for mapping in reply_mappings() for mapper in _mappers(mapping, expose_reason)
    ]
    return LocalReplyConfig(mappers=[_failed_handshake(), *mappers, _ready()])


def _failed_handshake() -> ResponseMapper:
    """The response of a model server that accepts no WebSocket, without its body."""
    return ResponseMapper(
        filter=_expression(f"response.code_details.startsWith('{HANDSHAKE_DETAILS}')"),
        headers_to_add=[failed_handshakes.mark()],
    )


def _ready() -> ResponseMapper:
    """The answer that the gateway is ready. The filter that sends it writes no body."""
    return ResponseMapper(
        filter=_expression(f"response.code_details.startsWith('{READY_DETAILS}')"),
        body_format_override=_text(json.dumps(READY_ANSWER), "application/json"),
    )


def _mappers(reply: ReplyMapping, expose_reason: bool) -> Iterator[ResponseMapper]:
    headers = []
    if expose_reason:
        headers.append(of_protos(HeaderValueOption, header(header_names.REASON, reply.reason)))
    condition = _expression(reply.when)
    # Envoy copies the body of a local reply to a gRPC call to grpc-message: plain text.
    yield ResponseMapper(
        filter=AccessLogFilter(and_filter=AndFilter(filters=[condition, *_is_grpc()])),
        body_format_override=_text(_escaped(reply.detail)),
        headers_to_add=[*headers, *_grpc_status(reply)],
    )
    yield ResponseMapper(
        filter=condition,
        status_code=reply.status,
        body_format_override=_text(reply.problem(), MEDIA_TYPE),
        headers_to_add=headers,
    )


def _grpc_status(reply: ReplyMapping) -> Iterator[HeaderValueOption]:
    if reply.grpc_status is not None:
        yield of_protos(HeaderValueOption, header("grpc-status", str(reply.grpc_status)))


def _text(form: str, content_type: str = "") -> SubstitutionFormatString:
    source = DataSource(inline_string=form)
    return SubstitutionFormatString(text_format_source=source, content_type=content_type)


def _escaped(text: str) -> str:
    # A percent sign starts a command operator in format strings.
    return text.replace("%", "%%")


def _expression(expression: str) -> AccessLogFilter:
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=pack(ExpressionFilter(expression=expression)),
        )
    )


def _is_grpc() -> list[AccessLogFilter]:
    """Whether Envoy answers the client in gRPC, which it does not for gRPC-Web.

    A request that the callout has converted to gRPC is excluded: it has the header `x-sluice-path`.
    """
    content_type = StringMatcher(safe_regex=RegexMatcher(regex=r"application/grpc(\+.*)?"))
    unconverted = HeaderMatcher(name=header_names.PATH, present_match=True, invert_match=True)
    return [
        _header_filter(HeaderMatcher(name="content-type", string_match=content_type)),
        _header_filter(unconverted),
    ]


def _header_filter(matcher: HeaderMatcher) -> AccessLogFilter:
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))
