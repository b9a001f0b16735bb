"""Interface of body handlers, and handlers that pass or count bodies.

After the decision on the request headers, a stream passes every later part to a `BodyHandler` if
the body must be counted, converted or checked. Each part has one method, which has the name of the
part's field in ProcessingRequest. `handlers.choose_handler` chooses the handler.
"""

from collections.abc import Awaitable
from typing import Protocol

from extproc.decision import Refusal
from extproc.decision.refusals import body_too_large
from extproc.segments import Content
from extproc.services.ext_proc import messages
from protos.ext_proc_pb2 import HttpBody, HttpHeaders, HttpTrailers, ProcessingMode

Result = Content | Refusal
"""A serialized ProcessingResponse, or the refusal of the request."""


class BodyHandler(Protocol):
    """Handles the parts after the request headers. A method may return an awaitable result."""

    @property
    def mode(self) -> ProcessingMode:
        """The parts that Envoy must send, and how it sends bodies.

        A constant of `messages`: the response cache compares modes by identity.
        """

    def request_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Handle the request body; a chunk of the body if `mode` has STREAMED."""

    def request_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Handle the request trailers."""

    def response_headers(self, headers: HttpHeaders) -> Result | Awaitable[Result]:
        """Handle the response headers."""

    def response_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Handle the response body; a chunk of the body if `mode` has STREAMED."""

    def response_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Handle the response trailers."""

    def close(self) -> None:
        """The call has ended. Release what the handler holds. May be called twice."""


class PassBody:
    """Passes every part unchanged. Other handlers override some methods."""

    __slots__ = ()

    def request_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Pass the body."""
        return messages.PASS["request_body"]

    def request_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Pass the trailers."""
        return messages.PASS["request_trailers"]

    def response_headers(self, headers: HttpHeaders) -> Result | Awaitable[Result]:
        """Pass the headers."""
        return messages.PASS["response_headers"]

    def response_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Pass the body."""
        return messages.PASS["response_body"]

    def response_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Pass the trailers."""
        return messages.PASS["response_trailers"]

    def close(self) -> None:
        """Nothing to release."""


class CountBody(PassBody):
    """Passes a request body, and refuses it when it exceeds `limit` bytes."""

    __slots__ = ("_limit", "_received")

    mode = messages.COUNT_BODY

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._received = 0

    def request_body(self, body: HttpBody) -> Result:
        """Count the bytes of a chunk."""
        self._received += len(body.body)
        if self._received > self._limit:
            return body_too_large(self._limit)
        return messages.PASS["request_body"]
