"""One request whose body is converted, and whose response may be converted back.

Envoy holds the request until the answer to its body is here, so what cannot be converted never
reaches the model.
"""

from collections.abc import Awaitable, Mapping

from extproc.convert import (
    ConversionError,
    ConversionPool,
    ConvertedMessage,
    Converter,
    ResponseOptions,
)
from extproc.convert.errors import bad_model_response
from extproc.framing import PREFIX, PREFIX_SIZE, frame
from extproc.services.ext_proc import messages
from extproc.services.responses import Headers, failed
from protos.ext_proc_pb2 import HttpHeaders, HttpTrailers
from sluice.contract import headers as header_names
from sluice.contract.local_replies import callout_details
from sluice.contract.problem import MEDIA_TYPE

_GRPC = "application/grpc"


class Conversion:
    """Between a client and a model server that speak differently."""

    __slots__ = (
        "_answer_headers", "_answered", "_converter", "_expose_reason", "_headers", "_pool",
        "_reply",
    )  # fmt: skip

    def __init__(
        self,
        converter: Converter,
        pool: ConversionPool,
        headers: Mapping[str, bytes],
        *,
        expose_reason: bool,
    ) -> None:
        self._converter = converter
        self._pool = pool
        self._headers = _text(headers)
        self._expose_reason = expose_reason
        self._reply: ResponseOptions | None = None
        self._answer_headers: dict[str, str] = {}
        self._answered = False

    async def request_body(self, body: bytes) -> bytes:
        """The answer to a request's whole body: its conversion, or a refusal."""
        try:
            converted = await self._pool.request(self._converter, body, self._headers)
        except ConversionError as error:
            return self._refused(error)
        except Exception as error:
            refusal = failed(error)
            return self._refused(ConversionError(refusal.reason, "body", refusal.detail))
        self._reply = converted.response_options
        headers, sent, removed = dict(converted.headers), converted.body, [*converted.remove]
        if self._converter.protocol == "grpc":
            headers["content-type"] = _GRPC
            removed += filter(_is_metadata, self._headers)
            sent = frame(sent)
        # For the access log: what the client asked for, where the model is asked something else.
        headers[header_names.PATH] = self._headers.get(":path", "").partition("?")[0]
        return messages.request_body(sent, list(headers.items()), removed)

    def response_headers(self, message: HttpHeaders) -> bytes | Awaitable[bytes]:
        """The answer to a response's headers: pass, ask for the body, or convert an empty one."""
        if self._reply is None or not self._converter.converts_response(self._reply):
            return messages.PASS["response_headers"]
        self._answer_headers = _text(dict(messages.pairs(message.headers)))
        if message.end_of_stream:
            return self._status_alone("response_headers")
        return messages.response_headers(messages.CONVERT_ANSWER)

    async def response_body(self, body: bytes) -> bytes:
        """The answer to a response's whole body: its conversion, or a refusal."""
        self._answered = bool(body)
        try:
            converted = await self._response(self._unframed(body))
        except ConversionError as error:
            return self._refused(error)
        if converted is None:
            return messages.PASS["response_body"]
        return messages.response_body(
            converted.body, list(converted.headers.items()), converted.remove
        )

    def response_trailers(self, message: HttpTrailers) -> bytes | Awaitable[bytes]:
        """The answer to trailers: where no body came with them, they are all of the response."""
        if self._answered:
            return messages.PASS["response_trailers"]
        self._answer_headers |= _text(dict(messages.pairs(message.trailers)))
        return self._status_alone("response_trailers")

    async def _status_alone(self, part: str) -> bytes:
        """A gRPC error comes without a body: its problem document is a response of our own."""
        try:
            converted = await self._response(b"")
        except ConversionError as error:
            return self._refused(error)
        if converted is None:
            return messages.PASS[part]
        headers = [(n, v) for n, v in converted.headers.items() if not n.startswith(":")]
        return messages.immediate(
            converted.status, headers, converted.body, callout_details("model_status")
        )

    def _unframed(self, body: bytes) -> bytes:
        """A gRPC answer's one message. Raises ConversionError."""
        if not self._answer_headers.get("content-type", "").startswith(_GRPC) or not body:
            return body
        # HTTP/2 has the status in trailers, behind the message, which is not sent but with OK.
        self._answer_headers.setdefault("grpc-status", "0")
        compressed, length = PREFIX.unpack_from(body) if len(body) >= PREFIX_SIZE else (1, 0)
        if compressed or length != len(body) - PREFIX_SIZE:
            raise _UNREADABLE
        return body[PREFIX_SIZE:]

    def _refused(self, error: ConversionError) -> bytes:
        headers: Headers = [("content-type", MEDIA_TYPE)]
        if error.retry_after is not None:
            headers.append(("retry-after", str(error.retry_after)))
        if self._expose_reason:
            # In the place of the admission's, which the route would tell.
            headers.append((header_names.REASON, error.reason))
        body = error.problem(self._headers.get(header_names.REQUEST_ID, ""))
        return messages.immediate(error.status, headers, body, callout_details(error.reason))

    async def _response(self, body: bytes) -> ConvertedMessage | None:
        assert self._reply is not None
        status = self._answer_headers.get(":status", "")
        try:
            return await self._pool.response(
                self._converter,
                self._reply,
                int(status) if status.isdigit() else 502,
                self._answer_headers,
                body,
            )
        except ConversionError:
            raise
        except Exception as error:
            failed(error)
            raise _UNREADABLE from None


_UNREADABLE = bad_model_response("cannot be read")


def _is_metadata(name: str) -> bool:
    """Whether gRPC gives the header a meaning, which a client of REST cannot have meant.

    A server answers a `grpc-timeout` that passes, or a `-bin` that is no base64, as its own error.
    """
    return name.startswith("grpc-") or name.endswith("-bin")


def _text(headers: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.decode("latin-1") for name, value in headers.items()}
