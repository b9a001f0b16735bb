"""A gRPC call that goes on as it is: its messages can be read, and name the model decided on.

The decision is made by headers, and a server may well have models that this caller may not use. For
the rest of what is not whole it waits until the call has run out of time, and what it cannot read
it answers as a failure of its own: neither must be had for the asking.
"""

import zlib
from collections.abc import Awaitable, Iterable, Mapping

from google.protobuf.message import DecodeError

from extproc.convert import ConversionError, ConversionPool
from extproc.decision import Reason, Refusal
from extproc.decision.validate import SERVER_METHODS, body_too_large, grpc_method
from extproc.framing import PREFIX, PREFIX_SIZE
from extproc.policy.compiled import Target
from protos.call_pb2 import ModelRequest
from protos.inference_pb2 import ServerLiveRequest

_CONTAINERS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
"""zlib's names for the codings of `grpc-encoding` (grpc/doc/compression.md)."""

_STREAMED = b"ModelStreamInfer"
"""The method that takes more than one message."""

_REASONS = {
    413: Reason.BODY_TOO_LARGE,
    415: Reason.UNSUPPORTED_MEDIA_TYPE,
    503: Reason.CONVERSION_QUEUE_FULL,
}


class GrpcBodyCheck:
    """Reads a call's body as it passes, so that the server lacks the end of what is refused.

    A message is judged whole: in protobuf a field may come twice, and the last one counts.
    """

    __slots__ = ("_begun", "_coding", "_limit", "_method", "_pending", "_pool", "_target")

    def __init__(
        self, target: Target, limit: int, headers: Mapping[str, bytes], pool: ConversionPool
    ) -> None:
        """`limit` is in bytes, and of each message: streams have no end to count to."""
        self._target = target
        self._limit = limit
        self._method = grpc_method(headers[":path"])
        self._coding = headers.get("grpc-encoding", b"")
        self._pool = pool
        self._pending = bytearray()
        self._begun = False

    def check(self, piece: bytes, *, last: bool) -> Refusal | Awaitable[Refusal | None] | None:
        """What is wrong with the messages that a piece of the body completes; None: it may go on.

        Awaits where messages are compressed.
        """
        self._pending += piece
        messages: list[tuple[bool, bytes]] = []
        while len(self._pending) >= PREFIX_SIZE:
            flags, length = PREFIX.unpack_from(self._pending)
            if flags > 1:
                return Refusal(Reason.MALFORMED_REQUEST, "no gRPC message begins so")
            if length > self._limit:
                return body_too_large(self._limit)
            end = PREFIX_SIZE + length
            if len(self._pending) < end:
                break
            if self._begun and self._method != _STREAMED:
                return Refusal(Reason.MALFORMED_REQUEST, "this method takes one message")
            self._begun = True
            messages.append((flags == 1, bytes(self._pending[PREFIX_SIZE:end])))
            del self._pending[:end]
        if last and self._pending:
            return Refusal(Reason.MALFORMED_REQUEST, "the body ends inside a gRPC message")
        if any(compressed for compressed, _ in messages):
            return self._check_compressed(messages)
        return self._check_plain(message for _, message in messages)

    async def _check_compressed(self, messages: Iterable[tuple[bool, bytes]]) -> Refusal | None:
        try:
            plain = [
                await self._decompressed(message) if compressed else message
                for compressed, message in messages
            ]
        except ConversionError as error:
            return _refusal(error)
        return self._check_plain(plain)

    async def _decompressed(self, message: bytes) -> bytes:
        """On a thread, because a few bytes can become many. Raises ConversionError."""
        container = _CONTAINERS.get(self._coding)
        if container is None:
            detail = "messages are compressed by gzip or deflate, and grpc-encoding says which"
            raise ConversionError(Reason.UNKNOWN_CODING, "grpc-encoding", detail)
        return await self._pool.run(
            "grpc-inflate", lambda: _inflated(message, container, self._limit), len(message)
        )

    def _check_plain(self, messages: Iterable[bytes]) -> Refusal | None:
        for message in messages:
            try:
                if self._method in SERVER_METHODS:
                    ServerLiveRequest.FromString(message)
                    continue
                called = ModelRequest.FromString(message)
            except DecodeError:
                return Refusal(Reason.MALFORMED_REQUEST, "the message is no protobuf")
            if called.name != self._target.model:
                return _mismatch("model", called.name, self._target.model)
            if called.version not in ("", self._target.version):
                return _mismatch("version", called.version, self._target.version)
        return None


def _inflated(message: bytes, container: int, limit: int) -> bytes:
    """Raises ConversionError.

    Of several gzip members servers read all or only the first, so there must be one.
    """
    decoder = zlib.decompressobj(container)
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
        f"the message names {what} {named[:80]!r}, and the call's headers {admitted!r}",
    )


def _refusal(error: ConversionError) -> Refusal:
    headers: tuple[tuple[str, str], ...] = ()
    if error.retry_after is not None:
        headers = (("retry-after", str(error.retry_after)),)
    reason = _REASONS.get(error.status, Reason.MALFORMED_REQUEST)
    return Refusal(reason, f"{error.field}: {error.detail}", headers)
