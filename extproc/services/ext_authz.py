"""envoy.service.auth.v3.Authorization: makes the same decisions as ext_proc, for ext_authz filters.

The service sees only headers. It does not count bodies: Envoy's buffer limits apply to a body
without `content-length`.
"""

import re
from collections.abc import Awaitable, Iterable, Mapping
from typing import Final

from extproc.decision import Admission, Decision, Reason, Refusal
from extproc.decision.request import JoinedHeaders
from extproc.policy.compiled import Policy
from extproc.rpc import RpcError, StatusCode
from extproc.services.decider import Decider
from extproc.services.response_cache import ResponseCache
from extproc.services.responses import (
    Headers,
    log_failure,
    refusal_body,
    refusal_headers,
    removed_headers,
    upstream_headers,
    video_credentials,
)
from protos.base_pb2 import HeaderValue, HeaderValueOption
from protos.ext_authz_pb2 import AttributeContext, CheckRequest, CheckResponse
from sluice.contract.headers import ALIASES, MODEL_SERVICE

_ALIASES: Final = tuple(map(re.compile, ALIASES))

_METHODS_WITHOUT_BODY = ("GET", "HEAD", "DELETE", "OPTIONS")
"""Methods whose requests have a body only if the headers declare a body."""

_CANNOT_CONVERT = Refusal(
    Reason.UNSUPPORTED_MEDIA_TYPE,
    "the body must be converted for this model, and ext_authz cannot convert bodies",
)

_FORGED: Final = Refusal(
    Reason.MALFORMED_REQUEST,
    f"the request has {MODEL_SERVICE}, which only the gateway may set: remove it",
)
"""By this header, routes choose the version. An Envoy that does not match the route again after the
decision would use that of the client."""

_CANNOT_QUERY = Refusal(
    Reason.UNKNOWN_OPERATION,
    "the request must be converted for this model, and ext_authz cannot convert requests",
)


class Authorization:
    """The gRPC service."""

    def __init__(self, decider: Decider) -> None:
        self._current_policy = decider.current_policy
        self._decider = decider
        self._responses = ResponseCache()

    def check(self, message: bytes) -> bytes | Awaitable[bytes]:
        """Respond to one CheckRequest. Raises RpcError if the message is not a CheckRequest."""
        try:
            request = CheckRequest.FromString(message)
        except Exception as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "not a CheckRequest") from error
        http = request.attributes.request.http
        headers = _headers(http)
        if MODEL_SERVICE in headers:
            return _denied_response(self._current_policy.current, headers, _FORGED)
        decision = self._decider.decide(headers, has_body=_has_body(http, headers))
        if isinstance(decision, Admission | Refusal):
            return self._response(headers, decision)
        return self._response_later(headers, decision)

    async def _response_later(
        self, headers: dict[str, bytes], decision: Awaitable[Decision]
    ) -> bytes:
        return self._response(headers, await decision)

    def _response(self, headers: dict[str, bytes], decision: Decision) -> bytes:
        policy = self._current_policy.current
        if isinstance(decision, Refusal):
            return _denied_response(policy, headers, decision)
        if decision.converter is not None:
            refusal = _CANNOT_CONVERT if decision.converter.takes_body else _CANNOT_QUERY
            return _denied_response(policy, headers, refusal)
        assert policy is not None
        try:
            removed = (*removed_headers(policy, headers), *filter(_is_alias, headers))
            return self._responses.get(
                policy, decision, removed, lambda: _ok_response(policy, decision, headers, removed)
            )
        except Exception as error:
            return _denied_response(policy, headers, log_failure(error))


def _is_alias(name: str) -> bool:
    """Whether servers may take the name for a header of the gateway.

    Our own Envoy removes or refuses such names. The Envoy of a mesh does not.
    """
    return "_" in name and any(alias.fullmatch(name) for alias in _ALIASES)


def _has_body(http: AttributeContext.HttpRequest, headers: dict[str, bytes]) -> bool:
    """Whether the request has, or may have, a body. An HTTP/2 request need not declare its body."""
    length = headers.get("content-length")
    if length is not None:
        return length != b"0"
    return (
        http.size > 0 or "transfer-encoding" in headers or http.method not in _METHODS_WITHOUT_BODY
    )


def _headers(http: AttributeContext.HttpRequest) -> dict[str, bytes]:
    """The headers by name. Envoy sends a map with joined values, or a list (encode_raw_headers)."""
    if http.header_map.headers:
        pairs = ((h.key, h.raw_value) for h in http.header_map.headers)
        headers: dict[str, bytes] = JoinedHeaders(pairs)
    else:
        headers = {name: value.encode() for name, value in http.headers.items()}
    headers[":method"] = http.method.encode()
    headers[":path"] = http.path.encode()
    return headers


def _ok_response(
    policy: Policy, admission: Admission, headers: Mapping[str, bytes], removed: Iterable[str]
) -> bytes:
    response = CheckResponse()
    response.status.code = StatusCode.OK
    added = upstream_headers(admission) + video_credentials(policy, admission, headers)
    response.ok_response.headers.extend(_options(added))
    overwritten = {name for name, _ in added}
    # ext_authz removes headers after it sets headers, so no header may be in both lists.
    response.ok_response.headers_to_remove.extend(n for n in removed if n not in overwritten)
    return response.SerializeToString()


def _denied_response(policy: Policy | None, headers: dict[str, bytes], refusal: Refusal) -> bytes:
    response = CheckResponse()
    response.status.code = StatusCode.PERMISSION_DENIED
    response.status.message = refusal.reason
    denied = response.denied_response
    denied.status.code = refusal.status
    denied.headers.extend(_options(refusal_headers(policy, refusal, headers)))
    denied.body = refusal_body(refusal, headers).decode()
    return response.SerializeToString()


def _options(headers: Headers) -> list[HeaderValueOption]:
    """Headers to set. For ext_authz, Envoy reads `value`, not `raw_value`."""
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, value=value),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers
    ]
