"""Decodes length-prefixed messages (PROTOCOL-HTTP2.md, "Length-Prefixed-Message") from content that
arrives in pieces of any size.
"""

import zlib
from typing import Final

from extproc.framing import PREFIX, PREFIX_SIZE
from extproc.rpc import RpcError, StatusCode

_GZIP_WINDOW_BITS: Final = 31  # zlib: 15 bits of window, plus 16 for gzip framing


class MessageDecoder:
    """Decodes the messages of one call.

    It buffers content as it arrived. A message is cut out and inflated only when it is needed, so
    that messages which wait for their handler take no more memory than on the wire.
    """

    __slots__ = ("_buffer", "_gzip", "_max_message")

    def __init__(self, *, gzip: bool, max_message: int) -> None:
        self._buffer = bytearray()
        self._gzip = gzip
        self._max_message = max_message

    def __len__(self) -> int:
        """Number of buffered bytes."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add content."""
        self._buffer += data

    def next_message(self) -> bytes | None:
        """Remove and return the next message; None if it is incomplete.

        Raises RpcError: RESOURCE_EXHAUSTED for a message above the limit, INTERNAL for an invalid
        one.
        """
        buffer = self._buffer
        if len(buffer) < PREFIX_SIZE:
            return None
        compressed, length = PREFIX.unpack_from(buffer)
        if length > self._max_message:
            raise _too_large(length, self._max_message)
        end = PREFIX_SIZE + length
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            payload = bytes(view[PREFIX_SIZE:end])
        # This moves the start of the buffer. It copies the rest only when half of it is unused.
        del buffer[:end]
        return self._decompress(compressed, payload)

    def _decompress(self, compressed: int, payload: bytes) -> bytes:
        if compressed == 0:
            return payload
        if compressed != 1 or not self._gzip:
            raise RpcError(StatusCode.INTERNAL, "compressed message without grpc-encoding")
        return gunzip(payload, self._max_message)


def gunzip(payload: bytes, max_message: int) -> bytes:
    """Decompress one gzip member; stops as soon as the result exceeds `max_message`."""
    inflate = zlib.decompressobj(_GZIP_WINDOW_BITS)
    try:
        content = inflate.decompress(payload, max_message + 1)
    except zlib.error:
        raise RpcError(StatusCode.INTERNAL, "message is not gzip") from None
    if len(content) > max_message:
        raise _too_large(len(content), max_message)
    if not inflate.eof or inflate.unused_data:
        raise RpcError(StatusCode.INTERNAL, "message is not one gzip member")
    return content


def _too_large(size: int, limit: int) -> RpcError:
    return RpcError(
        StatusCode.RESOURCE_EXHAUSTED,
        f"message of at least {size} bytes is larger than the limit of {limit}",
    )
