"""Checks the messages of a gRPC call that passes unchanged.

The decision reads only headers. The server may have models that this caller may not use, so each
message must name the admitted model. A message must also be complete and readable. For an
incomplete message, a server waits until the call times out. For an unreadable message, a server
responds with an error. Both would count as failures of the server.
"""

import zlib
from collections.abc import Awaitable, Iterable, Mapping

from google.protobuf.message import DecodeError

from extproc.convert import ConversionError, ConversionPool
from extproc.decision import Reason, Refusal
from extproc.decision.oip_grpc import SERVER_METHODS, method_name
from extproc.decision.refusals import MISSING_MESSAGE, body_too_large
from extproc.framing import PREFIX, PREFIX_SIZE
from extproc.policy.compiled import Target
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.body_handler import PassBody, Result
from protos.ext_proc_pb2 import HttpBody, HttpTrailers
from protos.inference_pb2 import ServerLiveRequest
from protos.model_request_pb2 import ModelRequest

_WINDOW_BITS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
"""zlib's `wbits` of the encodings of `grpc-encoding` (grpc/doc/compression.md)."""

_STREAMING_METHOD = b"ModelStreamInfer"
"""The method that takes more than one message."""

_TRAILERS = Refusal(Reason.MALFORMED_REQUEST, "a gRPC request has no trailers")
"""In gRPC over HTTP/2, a request has no trailers. If trailers follow an incomplete message, the
check would not see the end of the body, and the server would wait for the rest of the message."""

_REASONS = {
    413: Reason.BODY_TOO_LARGE,
    415: Reason.UNSUPPORTED_MEDIA_TYPE,
    503: Reason.CONVERSION_QUEUE_FULL,
}
"""Reasons of a refusal, by the status of a conversion error. Default: malformed_request."""


class GrpcBodyCheck(PassBody):
    """Checks the body of a call. The server never gets the end of a refused message.

    Each message is checked as a whole, because the last occurrence of a protobuf field counts.
    """

    __slots__ = (
        "_begun", "_encoding", "_limit", "_method", "_pending", "_pool", "_received", "_target",
    )  # fmt: skip

    mode = messages.CHECK_BODY

    def __init__(
        self, target: Target, limit: int, headers: Mapping[str, bytes], pool: ConversionPool
    ) -> None:
        """`limit` is the size of one message in bytes: a stream has no total size."""
        self._target = target
        self._limit = limit
        self._method = method_name(headers[":path"])
        self._encoding = headers.get("grpc-encoding", b"")
        self._pool = pool
        self._pending = bytearray()
        self._received = False
        self._begun = False

    def request_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Check the messages that a chunk completes."""
        self._received = self._received or bool(body.body)
        if body.end_of_stream and not self._received:
            return MISSING_MESSAGE
        refusal = self.check(body.body, last=body.end_of_stream)
        if refusal is None or isinstance(refusal, Refusal):
            return refusal or messages.PASS["request_body"]
        return self._pass_later(refusal)

    def request_trailers(self, trailers: HttpTrailers) -> Result:
        """Refuse a request with trailers."""
        return _TRAILERS

    def check(self, chunk: bytes, *, last: bool) -> Refusal | Awaitable[Refusal | None] | None:
        """Check the messages that a chunk completes. Returns a refusal; None if they may pass.

        The result must be awaited if messages are compressed.
        """
        self._pending += chunk
        complete: list[tuple[bool, bytes]] = []
        while len(self._pending) >= PREFIX_SIZE:
            flags, length = PREFIX.unpack_from(self._pending)
            if flags > 1:
                return Refusal(Reason.MALFORMED_REQUEST, "invalid gRPC message prefix")
            if length > self._limit:
                return body_too_large(self._limit)
            end = PREFIX_SIZE + length
            if len(self._pending) < end:
                break
            if self._begun and self._method != _STREAMING_METHOD:
                return Refusal(Reason.MALFORMED_REQUEST, "this method takes one message")
            self._begun = True
            complete.append((flags == 1, bytes(self._pending[PREFIX_SIZE:end])))
            del self._pending[:end]
        if last and self._pending:
            return Refusal(Reason.MALFORMED_REQUEST, "the body ends inside a gRPC message")
        if any(compressed for compressed, _ in complete):
            return self._check_compressed(complete)
        return self._check_plain(message for _, message in complete)

    async def _pass_later(self, refusal: Awaitable[Refusal | None]) -> Result:
        return await refusal or messages.PASS["request_body"]

    async def _check_compressed(self, complete: Iterable[tuple[bool, bytes]]) -> Refusal | None:
        try:
            plain = [
                await self._decompressed(message) if compressed else message
                for compressed, message in complete
            ]
        except ConversionError as error:
            return _refusal(error)
        return self._check_plain(plain)

    async def _decompressed(self, message: bytes) -> bytes:
        """Decompress a message on a thread, because it may be large. Raises ConversionError."""
        window_bits = _WINDOW_BITS.get(self._encoding)
        if window_bits is None:
            detail = "a compressed message needs grpc-encoding gzip or deflate"
            raise ConversionError(Reason.UNKNOWN_CODING, "grpc-encoding", detail)
        return await self._pool.run(
            "grpc-inflate", lambda: _decompress(message, window_bits, self._limit), len(message)
        )

    def _check_plain(self, complete: Iterable[bytes]) -> Refusal | None:
        for message in complete:
            try:
                if self._method in SERVER_METHODS:
                    ServerLiveRequest.FromString(message)
                    continue
                named = ModelRequest.FromString(message)
            except DecodeError:
                return Refusal(Reason.MALFORMED_REQUEST, "the message is not valid protobuf")
            if named.name != self._target.model:
                return _mismatch("model", named.name, self._target.model)
            if named.version not in ("", self._target.version):
                return _mismatch("version", named.version, self._target.version)
        return None


def _decompress(message: bytes, window_bits: int, limit: int) -> bytes:
    """Decompress one gzip or zlib member of up to `limit` bytes. Raises ConversionError.

    Some servers read all members of a gzip stream, others only the first. More than one is refused.
    """
    decoder = zlib.decompressobj(window_bits)
    try:
        plain = decoder.decompress(message, limit + 1)
    except zlib.error:
        plain = b""
    if len(plain) > limit:
        raise ConversionError(Reason.BODY_TOO_LARGE, "body", f"is larger than {limit} bytes")
    if not decoder.eof or decoder.unused_data:
        raise ConversionError(Reason.BROKEN_CODING, "body", "cannot be decompressed")
    return plain


def _mismatch(what: str, named: str, admitted: str) -> Refusal:
    return Refusal(
        Reason.MODEL_MISMATCH,
        f"the message names {what} {named[:80]!r}, but the call was admitted to {admitted!r}",
    )


def _refusal(error: ConversionError) -> Refusal:
    headers: tuple[tuple[str, str], ...] = ()
    if error.retry_after is not None:
        headers = (("retry-after", str(error.retry_after)),)
    reason = _REASONS.get(error.status, Reason.MALFORMED_REQUEST)
    return Refusal(reason, f"{error.field}: {error.detail}", headers)
