"""Converts the body of a request for the model server, and the response for the client.

Envoy holds the request until the whole body is converted, so a body that cannot be converted never
reaches the model server.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache

from extproc.convert import (
    ACCEPTED_CODINGS,
    CallerPool,
    Conversion,
    ConversionError,
    ConvertedMessage,
    ResponseOptions,
)
from extproc.decision import Admission, Reason, Refusal
from extproc.decision.grpc_metadata import is_metadata_name, is_metadata_value
from extproc.decision.refusals import body_too_large
from extproc.framing import PREFIX, PREFIX_SIZE, length_prefixed_content
from extproc.segments import Content
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.body_handler import PassBody, Result
from extproc.services.responses import Headers, log_failure
from protos.ext_proc_pb2 import HttpBody, HttpHeaders, HttpTrailers
from sluice.contract import headers as header_names
from sluice.contract.problem import MEDIA_TYPE
from sluice.contract.request_end import RequestEnd
from sluice.media_types import GRPC, media_type_name

_LISTS = frozenset({"content-encoding", "vary"})
"""Response headers that are lists. A server may send one header for each member."""

_INCOMPLETE = Refusal(
    Reason.MALFORMED_REQUEST,
    "the body is incomplete: declare its length, or send it without trailers",
)
"""If Envoy's buffer limit is lower than the callout's limit (as during a change of the config),
Envoy sends only the beginning of a body without `content-length`, and would forward the rest
unconverted. A body before trailers looks the same.
"""


class ConvertBody(PassBody):
    """Converts between a client and a model server that use different protocols."""

    __slots__ = (
        "_admission_reason", "_converter",
        "_expose_reason",
        "_headers",
        "_limit",
        "_measured",
        "_options",
        "_pool",
        "_response_begun",
        "_response_headers",
    )  # fmt: skip

    mode = messages.CONVERT_BODY

    def __init__(
        self,
        admission: Admission,
        headers: Mapping[str, bytes],
        pool: CallerPool,
        *,
        expose_reason: bool,
    ) -> None:
        assert admission.converter is not None
        self._converter = admission.converter
        self._limit = admission.max_body
        self._admission_reason = admission.reason
        self._pool = pool
        self._headers = _text(headers)
        self._expose_reason = expose_reason
        self._measured = header_names.CONTENT_LENGTH in headers
        self._options: ResponseOptions | None = None
        self._response_headers: dict[str, str] = {}
        self._response_begun = False

    def request_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Convert the request's whole body, or refuse it."""
        content = body.body  # each access makes a copy
        if len(content) > self._limit:
            return body_too_large(self._limit)
        if not body.end_of_stream and not self._measured:
            return _INCOMPLETE
        return self._convert_request(content)

    def response_headers(self, headers: HttpHeaders) -> Result | Awaitable[Result]:
        """Pass the headers, request the body, or convert a response that has no body.

        Envoy sends a response whose body is not requested to the client as it arrives.
        """
        if self._options is None:
            return messages.PASS["response_headers"]
        self._response_headers = _response_fields(messages.pairs(headers.headers))
        if not self._converter.reads_response(
            self._options, self._response_status, self._response_headers
        ):
            return messages.PASS["response_headers"]
        if headers.end_of_stream:
            return self._convert_status("response_headers")
        try:
            self._converter.check_response_headers(self._response_headers)
        except ConversionError as error:
            return self._refusal(error)
        return messages.CONVERT_RESPONSE

    @property
    def _response_status(self) -> int:
        status = self._response_headers.get(":status", "")
        return int(status) if status.isdigit() else 502

    def response_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Convert the response's whole body, or refuse it.

        The body of a gRPC response ends before the trailers, and its message has a length.
        """
        if not body.end_of_stream and self._converter.protocol == "http":
            return self._refusal(_partial_response())
        # Only the content is passed on, because `body` has a copy of it.
        return self._convert_response_body(body.body)

    def _convert_response_body(self, body: bytes) -> Result | Awaitable[Result]:
        self._response_begun = bool(body)
        return self._finished(
            lambda: self._convert_response(self._message(body)),
            self._replaced_response,
            self._failed_response,
        )

    def _replaced_response(self, converted: ConvertedMessage | None) -> Result:
        if converted is None:
            return messages.PASS["response_body"]
        return messages.response_body(
            converted.content, list(converted.headers.items()), converted.remove
        )

    def response_trailers(self, trailers: HttpTrailers) -> Result | Awaitable[Result]:
        """Pass trailers after a body. Trailers without a body are the response: convert them."""
        if self._response_begun:
            return messages.PASS["response_trailers"]
        self._response_headers |= _text(dict(messages.pairs(trailers.trailers)))
        return self._convert_status("response_trailers")

    def _convert_request(self, body: bytes) -> Result | Awaitable[Result]:
        return self._finished(
            lambda: self._pool.convert_request(self._converter, body, self._headers),
            self._replaced_request,
            self._failed_request,
        )

    def _replaced_request(self, converted: ConvertedMessage | None) -> Result:
        assert converted is not None
        return messages.request_body(*self._forwarded(converted))

    def _failed_request(self, error: Exception) -> Result:
        return self._refusal(error) if isinstance(error, ConversionError) else log_failure(error)

    def _finished(
        self,
        start: Callable[[], Conversion],
        finish: Callable[[ConvertedMessage | None], Result],
        failed: Callable[[Exception], Result],
    ) -> Result | Awaitable[Result]:
        """Start a conversion. Returns its result at once if it ran on the event loop."""
        try:
            conversion = start()
            if conversion is None or isinstance(conversion, ConvertedMessage):
                return finish(conversion)
        except Exception as error:
            return failed(error)
        return self._finish_later(conversion, finish, failed)

    async def _finish_later(
        self,
        conversion: Awaitable[ConvertedMessage | None],
        finish: Callable[[ConvertedMessage | None], Result],
        failed: Callable[[Exception], Result],
    ) -> Result:
        try:
            return finish(await conversion)
        except Exception as error:
            return failed(error)

    def _forwarded(self, converted: ConvertedMessage) -> tuple[Content, Headers, list[str]]:
        """The new body, the headers to set and the headers to remove of a converted request."""
        self._options = converted.response_options
        headers, sent, removed = dict(converted.headers), converted.content, [*converted.remove]
        if self._converter.protocol == "grpc":
            headers["content-type"] = GRPC
            removed += _dropped(self._headers)
            sent = length_prefixed_content(sent)
        else:
            headers[header_names.BODY_LENGTH] = str(len(sent))
        # The access log shows the method and the path that the client sent.
        if ":method" in headers:
            headers[header_names.METHOD] = self._headers.get(":method", "")
        headers[header_names.PATH] = self._headers.get(":path", "").partition("?")[0]
        return sent, list(headers.items()), removed

    def _convert_status(self, part: str, body: bytes = b"") -> Result | Awaitable[Result]:
        """Convert a response, such as a gRPC error without a message, into one of the gateway."""
        return self._finished(
            lambda: self._convert_response(self._message(body)),
            lambda converted: self._immediate(part, converted),
            self._failed_response,
        )

    def _immediate(self, part: str, converted: ConvertedMessage | None) -> Result:
        if converted is None:
            return messages.PASS[part]
        headers = [(n, v) for n, v in converted.headers.items() if not n.startswith(":")]
        return messages.immediate(
            converted.status,
            headers,
            converted.body,
            RequestEnd(converted.reason or self._admission_reason).callout_details(),
        )

    def _convert_response(self, body: bytes) -> Conversion:
        """The converted response; None if it passes unchanged. Raises ConversionError."""
        assert self._options is not None
        return self._pool.convert_response(
            self._converter, self._options, self._response_status, self._response_headers, body
        )

    def _failed_response(self, error: Exception) -> Result:
        if isinstance(error, ConversionError):
            return self._refusal(error)
        log_failure(error)
        return self._refusal(_unreadable())

    def _message(self, body: bytes) -> bytes:
        """The message in a gRPC response, or the unchanged body of another response.

        The coding of a compressed message becomes the response's `content-encoding`. Raises
        ConversionError if the body is not exactly one message.
        """
        content_type = self._response_headers.get("content-type", "")
        if media_type_name(content_type) != GRPC or not body:
            return body
        # The status follows in the HTTP/2 trailers. A server sends a message only if it is OK.
        self._response_headers.setdefault(header_names.GRPC_STATUS, "0")
        # Of a body over the limit, Envoy sends only a part.
        self._converter.check_response_length(len(body) - PREFIX_SIZE)
        compressed, length = PREFIX.unpack_from(body) if len(body) >= PREFIX_SIZE else (0, -1)
        if length != len(body) - PREFIX_SIZE:
            raise _unreadable()
        if compressed:
            coding = self._response_headers.get("grpc-encoding", "")
            self._response_headers["content-encoding"] = coding
        return body[PREFIX_SIZE:]

    def _refusal(self, error: ConversionError) -> bytes:
        """The response to a refused request. The problem document names the invalid field.

        A frame in the traceback may refer to the error. This cycle is broken here, so that the
        bodies in the frames are freed now and not by the garbage collector.
        """
        error.__traceback__ = None
        headers: Headers = [("content-type", MEDIA_TYPE)]
        if error.retry_after is not None:
            headers.append(("retry-after", str(error.retry_after)))
        if error.reason is Reason.UNKNOWN_CODING or error.reason is Reason.TOO_MANY_CODINGS:
            headers.append(("accept-encoding", ACCEPTED_CODINGS))
        if self._expose_reason:
            # This value replaces the reason of the admission, which the route would add.
            headers.append((header_names.REASON, error.reason))
        body = error.problem(self._headers.get(header_names.REQUEST_ID, ""))
        # The detail may quote the body, which does not belong in a log.
        end = RequestEnd(error.reason, details=error.field)
        return messages.immediate(error.status, headers, body, end.callout_details())


def _partial_response() -> ConversionError:
    """See `_INCOMPLETE`. Envoy would forward the rest after the converted part."""
    return ConversionError(
        Reason.RESPONSE_TOO_LARGE, "response", "is too large to arrive as a whole"
    )


def _unreadable() -> ConversionError:
    # Not a constant: an exception keeps the frames that raised it, and the bodies in them.
    return ConversionError(Reason.BAD_MODEL_RESPONSE, "response", "cannot be read")


def _dropped(headers: Mapping[str, str]) -> list[str]:
    """The names of a client's headers that are not sent to a gRPC server.

    gRPC does not allow the header, or gives it a meaning that a REST client does not intend. For an
    expired `grpc-timeout`, a `-bin` header that is not base64, or a name such as `x!`, a server
    would respond with an error that counts as a failure of the server.
    """
    names = "\n".join(headers)
    dropped = [
        *(_dropped_names if len(names) > messages.MAX_CACHED else _cached_dropped_names)(names)
    ]
    if not is_metadata_value("".join(headers.values())):
        dropped += [
            name
            for name, value in headers.items()
            if not (name.startswith(":") or name in dropped or is_metadata_value(value))
        ]
    return dropped


def _dropped_names(names: str) -> tuple[str, ...]:
    """The names, one in each line, that are dropped whatever their values are."""
    return tuple(name for name in names.split("\n") if _is_dropped(name))


_cached_dropped_names = lru_cache(maxsize=512)(_dropped_names)
"""The requests of one client have headers with the same names."""


def _is_dropped(name: str) -> bool:
    if name.startswith(":"):
        return False
    return name.startswith("grpc-") or name.endswith("-bin") or not is_metadata_name(name)


def _response_fields(pairs: list[tuple[str, bytes]]) -> dict[str, str]:
    """The headers of a response by name. The values of repeated lists are joined."""
    headers: dict[str, bytes] = {}
    for name, value in pairs:
        known = headers.get(name) if name in _LISTS else None
        headers[name] = value if known is None else known + b", " + value
    return _text(headers)


def _text(headers: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.decode("latin-1") for name, value in headers.items()}
