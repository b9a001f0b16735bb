"""Builds and serializes the ProcessingResponse messages of ext_proc."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Final

from extproc.segments import Content, prefixed
from extproc.services.responses import Headers
from protos.base_pb2 import HeaderMap, HeaderValue, HeaderValueOption
from protos.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ImmediateResponse,
    ProcessingMode,
    ProcessingResponse,
    TrailersResponse,
)
from sluice.contract.headers import BODY_LENGTH
from sluice.protobuf_fields import field_head

PASS: Mapping[str, bytes] = {
    "request_body": ProcessingResponse(request_body=BodyResponse()).SerializeToString(),
    "response_headers": ProcessingResponse(response_headers=HeadersResponse()).SerializeToString(),
    "response_body": ProcessingResponse(response_body=BodyResponse()).SerializeToString(),
    "request_trailers": ProcessingResponse(request_trailers=TrailersResponse()).SerializeToString(),
    "response_trailers": ProcessingResponse(
        response_trailers=TrailersResponse()
    ).SerializeToString(),
}
"""Responses that let a part pass unchanged, keyed by the part's field in ProcessingRequest."""

MAX_CACHED: Final = 1024
"""Length of header values and names up to which serialized changes are cached. Clients choose the
path and the names of removed headers, so the limit bounds the memory of the cache."""

COUNT_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SKIP, request_body_mode=ProcessingMode.STREAMED
)
"""Envoy sends the request body in chunks, and forwards each chunk after the response to it."""

CHECK_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SKIP,
    request_body_mode=ProcessingMode.STREAMED,
    request_trailer_mode=ProcessingMode.SEND,
)
"""Envoy sends the request body in chunks, and the trailers, which also mark the end of the body."""

CONVERT_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SEND, request_body_mode=ProcessingMode.BUFFERED_PARTIAL
)
"""Envoy buffers the whole request body, and sends the part that it has buffered if the body exceeds
the route's buffer limit. It also sends the response headers.

The limit must not apply to the new body. In BUFFERED mode, Envoy 1.40 refuses a new body over the
limit if a part of the old one arrived after the response to the headers. And it never resumes
reading if it has buffered more than the limit before that response
(tests/integration/test_conversion.py, bodies/test_large_responses.py).
"""

CONVERT_CALL = ProcessingMode(response_header_mode=ProcessingMode.SEND)
"""The request has no body. Envoy sends the response headers."""

CONVERT_RESPONSE = ProcessingResponse(
    response_headers=HeadersResponse(),
    mode_override=ProcessingMode(
        response_header_mode=ProcessingMode.SEND,
        response_body_mode=ProcessingMode.BUFFERED_PARTIAL,
        response_trailer_mode=ProcessingMode.SEND,
    ),
).SerializeToString()
"""The response to response headers after which Envoy buffers the body in the same way. It also
sends the trailers."""


def more_time(seconds: float) -> bytes:
    """Ask Envoy to wait so long from now for the response to its latest message.

    Envoy accepts this once for each message (`override_message_timeout`).
    """
    response = ProcessingResponse()
    response.override_message_timeout.FromTimedelta(timedelta(seconds=seconds))
    return response.SerializeToString()


def request_headers(
    added: Headers, removed: Iterable[str], mode: ProcessingMode | None, body: bytes | None = None
) -> bytes:
    """Pass a request with changed headers. `mode` selects the parts that Envoy sends next.

    A request without a body can get one.
    """
    mutation = _mutation(added, removed)
    # The route reads its cluster from a header that this response sets, so Envoy must match again.
    common = CommonResponse(header_mutation=mutation, clear_route_cache=True)
    if body is not None:
        common.status = CommonResponse.CONTINUE_AND_REPLACE
        common.body_mutation.body = body
    response = ProcessingResponse(request_headers=HeadersResponse(response=common))
    if mode is not None:
        response.mode_override.CopyFrom(mode)
    return response.SerializeToString()


def request_body(body: Content, added: Headers, removed: Iterable[str]) -> Content:
    """Replace a buffered request body, and change headers."""
    return _replaced(ProcessingResponse.REQUEST_BODY_FIELD_NUMBER, body, added, removed)


def response_body(body: Content, added: Headers, removed: Iterable[str]) -> Content:
    """Replace a buffered response body, set its length, and change headers.

    Envoy ignores a `content-length` here, so the length has a header of its own.
    """
    headers = [*added, (BODY_LENGTH, str(len(body)))]
    return _replaced(ProcessingResponse.RESPONSE_BODY_FIELD_NUMBER, body, headers, removed)


def immediate(
    status: int, headers: Headers, body: bytes, details: str, grpc_status: int | None = None
) -> bytes:
    """Respond to the client without the model server.

    `details` become `response_code_details` (see `sluice.contract.local_replies`).
    """
    response = ImmediateResponse(body=body, details=details)
    response.status.code = status
    response.headers.set_headers.extend(_options(headers))
    if grpc_status is not None:
        response.grpc_status.status = grpc_status
    return ProcessingResponse(immediate_response=response).SerializeToString()


def pairs(message: HeaderMap) -> list[tuple[str, bytes]]:
    """Headers in order. Envoy sets `raw_value`, other ext_proc clients may set `value`."""
    return [(h.key, h.raw_value or h.value.encode()) for h in message.headers]


def _replaced(part: int, body: Content, added: Headers, removed: Iterable[str]) -> Content:
    """A ProcessingResponse that replaces a body. `part` is the field that holds the BodyResponse.

    The message is written from the inside out, because the body may be large (see `field_head`).
    """
    pairs, names = tuple(added), tuple(removed)
    size = sum(len(value) for _, value in pairs) + sum(map(len, names))
    changes = _changes(pairs, names) if size > MAX_CACHED else _cached_changes(pairs, names)
    head = field_head(BodyMutation.BODY_FIELD_NUMBER, len(body))
    head = (
        changes
        + field_head(CommonResponse.BODY_MUTATION_FIELD_NUMBER, len(head) + len(body))
        + head
    )
    for field in (BodyResponse.RESPONSE_FIELD_NUMBER, part):
        head = field_head(field, len(head) + len(body)) + head
    return prefixed(head, body)


def _changes(added: tuple[tuple[str, str], ...], removed: tuple[str, ...]) -> bytes:
    """A serialized CommonResponse that changes headers."""
    return CommonResponse(header_mutation=_mutation(added, removed)).SerializeToString()


_cached_changes = lru_cache(maxsize=512)(_changes)
"""The changes of most requests of a client are the same."""


def _mutation(added: Iterable[tuple[str, str]], removed: Iterable[str]) -> HeaderMutation:
    return HeaderMutation(set_headers=_options(added), remove_headers=removed)


def _options(headers: Iterable[tuple[str, str]]) -> list[HeaderValueOption]:
    """Headers to set. For ext_proc, Envoy reads `raw_value`."""
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode()),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers
    ]
