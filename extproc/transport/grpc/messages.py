"""Length-prefixed messages (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"): put together from
content that arrives in any pieces, and decompressed.
"""

import zlib
from typing import Final

from extproc.framing import PREFIX, PREFIX_SIZE
from extproc.rpc import RpcError, StatusCode

_GZIP: Final = 31  # zlib's window bits for gzip framing


class Reassembly:
    """The messages of one call that do not come whole in one piece of content."""

    __slots__ = ("_buffer", "_gzip", "_limit")

    def __init__(self, *, gzip: bool, limit: int) -> None:
        self._buffer = bytearray()
        self._gzip = gzip
        self._limit = limit

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Add content; returns the messages that it completes.

        RpcError: RESOURCE_EXHAUSTED for a message over the limit, INTERNAL for one that breaks the
        protocol.
        """
        buffer = self._buffer
        buffer += data
        messages = []
        position = 0
        while len(buffer) - position >= PREFIX_SIZE:
            compressed, length = PREFIX.unpack_from(buffer, position)
            if length > self._limit:
                raise _too_large(length, self._limit)
            start = position + PREFIX_SIZE
            if len(buffer) - start < length:
                break
            position = start + length
            messages.append(self._content(compressed, bytes(memoryview(buffer)[start:position])))
        if position:
            del buffer[:position]
        return messages

    def _content(self, compressed: int, payload: bytes) -> bytes:
        if compressed == 0:
            return payload
        if compressed != 1 or not self._gzip:
            raise RpcError(StatusCode.INTERNAL, "compressed message without grpc-encoding")
        return gunzip(payload, self._limit)


def gunzip(payload: bytes, limit: int) -> bytes:
    """Decompress one gzip member, stopping as soon as it exceeds the limit."""
    inflate = zlib.decompressobj(_GZIP)
    try:
        content = inflate.decompress(payload, limit + 1)
    except zlib.error:
        raise RpcError(StatusCode.INTERNAL, "message is not gzip") from None
    if len(content) > limit:
        raise _too_large(len(content), limit)
    if not inflate.eof or inflate.unused_data:
        raise RpcError(StatusCode.INTERNAL, "message is not one gzip member")
    return content


def _too_large(size: int, limit: int) -> RpcError:
    return RpcError(
        StatusCode.RESOURCE_EXHAUSTED, f"message of {size} or more bytes exceeds {limit}"
    )
