"""ProcessingResponses of ext_proc, put together and serialised."""

from collections.abc import Iterable, Mapping

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

COUNT_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SKIP, request_body_mode=ProcessingMode.STREAMED
)
"""Stream the request's body past, so that it can be counted."""

READ_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SKIP,
    request_body_mode=ProcessingMode.STREAMED,
    request_trailer_mode=ProcessingMode.SEND,
)
"""Stream it past to be read along, and tell of trailers, which would hide where it ends."""

CONVERT_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SEND, request_body_mode=ProcessingMode.BUFFERED
)
"""Hold the request until its body is here as a whole; show the response's headers."""

CONVERT_UNMEASURED_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SEND, request_body_mode=ProcessingMode.BUFFERED_PARTIAL
)
"""The same where no length is declared: of a body over the route's limit, what is here by then.

In BUFFERED mode, Envoy 1.40 never reads on once it holds more than the limit before the headers are
answered (tests/integration/test_conversion.py).
"""

CONVERT_ANSWER = ProcessingMode(
    response_header_mode=ProcessingMode.SEND,
    response_body_mode=ProcessingMode.BUFFERED,
    response_trailer_mode=ProcessingMode.SEND,
)
"""Hold the response until its body is here as a whole; show its trailers."""


def request_headers(added: Headers, removed: Iterable[str], mode: ProcessingMode | None) -> bytes:
    """Let a request's headers go on, changed; `mode` is for the rest of the exchange."""
    mutation = _mutation(added, removed)
    # The route names its cluster by a header that has just been set: it must be chosen again.
    common = CommonResponse(header_mutation=mutation, clear_route_cache=True)
    response = ProcessingResponse(request_headers=HeadersResponse(response=common))
    if mode is not None:
        response.mode_override.CopyFrom(mode)
    return response.SerializeToString()


def request_body(body: bytes, added: Headers, removed: Iterable[str]) -> bytes:
    """Put another body in place of a buffered request's, with the headers that go with it."""
    replaced = _replaced(body, added, removed)
    return ProcessingResponse(request_body=replaced).SerializeToString()


def response_headers(mode: ProcessingMode) -> bytes:
    """Let a response's headers go on as they are, and ask for its body."""
    return ProcessingResponse(
        response_headers=HeadersResponse(), mode_override=mode
    ).SerializeToString()


def response_body(body: bytes, added: Headers, removed: Iterable[str]) -> bytes:
    """Put another body in place of a buffered response's, with the headers that go with it."""
    replaced = _replaced(body, added, removed)
    return ProcessingResponse(response_body=replaced).SerializeToString()


def immediate(
    status: int, headers: Headers, body: bytes, details: str, grpc_status: int | None = None
) -> bytes:
    """Answer the client at once.

    `details` begins with `sluice`, or Envoy puts its own body there.
    """
    answer = ImmediateResponse(body=body, details=details)
    answer.status.code = status
    answer.headers.set_headers.extend(_options(headers))
    if grpc_status is not None:
        answer.grpc_status.status = grpc_status
    return ProcessingResponse(immediate_response=answer).SerializeToString()


def pairs(message: HeaderMap) -> list[tuple[str, bytes]]:
    """Headers in order. Envoy fills raw_value, other clients of the protocol value."""
    return [(h.key, h.raw_value or h.value.encode()) for h in message.headers]


def _replaced(body: bytes, added: Headers, removed: Iterable[str]) -> BodyResponse:
    mutation = BodyMutation(body=body)
    return BodyResponse(
        response=CommonResponse(header_mutation=_mutation(added, removed), body_mutation=mutation)
    )


def _mutation(added: Headers, removed: Iterable[str]) -> HeaderMutation:
    return HeaderMutation(set_headers=_options(added), remove_headers=removed)


def _options(headers: Headers) -> list[HeaderValueOption]:
    """Headers for Envoy, which reads `raw_value` in this service."""
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode()),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers
    ]
