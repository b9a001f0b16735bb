"""What the callout does with the bodies of one request and of its response.

A stream decides on the request's headers first. Where the body must be counted, converted or
checked, it hands every later part to a `BodyHandler`, whose method has the part's name in
ProcessingRequest. A new body protocol is another handler, chosen in `handlers.choose_handler`.
"""

from collections.abc import Awaitable
from typing import Protocol

from extproc.decision import Refusal
from extproc.decision.refusals import body_too_large
from extproc.services.ext_proc import messages
from protos.ext_proc_pb2 import HttpBody, HttpHeaders, HttpTrailers, ProcessingMode

Result = bytes | Refusal
"""A serialized ProcessingResponse, or the refusal of the request."""


class BodyHandler(Protocol):
    """Handles the parts that follow a request's headers. Results may have to be awaited."""

    @property
    def mode(self) -> ProcessingMode:
        """The parts that Envoy must send."""

    def request_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Handle the request's body, or a chunk of it where `mode` has STREAMED."""

    def request_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Handle the request's trailers."""

    def response_headers(self, headers: HttpHeaders) -> Result | Awaitable[Result]:
        """Handle the response's headers."""

    def response_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Handle the response's body, or a chunk of it where `mode` has STREAMED."""

    def response_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Handle the response's trailers."""


class PassBody:
    """Lets every part pass unchanged. Other handlers override the parts that concern them."""

    __slots__ = ()

    mode = ProcessingMode()

    def request_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Let the body pass."""
        return messages.PASS["request_body"]

    def request_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Let the trailers pass."""
        return messages.PASS["request_trailers"]

    def response_headers(self, headers: HttpHeaders) -> Result | Awaitable[Result]:
        """Let the headers pass."""
        return messages.PASS["response_headers"]

    def response_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Let the body pass."""
        return messages.PASS["response_body"]

    def response_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Let the trailers pass."""
        return messages.PASS["response_trailers"]


class CountBody(PassBody):
    """Lets a body pass as long as it is not larger than `limit` bytes."""

    __slots__ = ("_limit", "_received")

    mode = messages.COUNT_BODY

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._received = 0

    def request_body(self, body: HttpBody) -> Result:
        """Count a chunk."""
        self._received += len(body.body)
        if self._received > self._limit:
            return body_too_large(self._limit)
        return messages.PASS["request_body"]
