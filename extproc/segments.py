"""Bytes in several buffers, which are sent one after another.

A message with large content is written around the content: no part of the gateway copies the
content into a larger message.
"""

from typing import TypeAlias

Buffer: TypeAlias = bytes | memoryview
"""Bytes. A memoryview must have items of one byte, and its content must not change."""


class Segments:
    """The content of several buffers. `bytes` joins them."""

    __slots__ = ("_size", "buffers")

    def __init__(self, *buffers: Buffer) -> None:
        self.buffers = buffers
        self._size = sum(map(len, buffers))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.buffers)

    def prefixed(self, head: bytes) -> "Segments":
        """The content after a short head, which is joined with a first buffer of bytes."""
        first, *others = self.buffers
        if isinstance(first, bytes):
            return Segments(head + first, *others)
        return Segments(head, first, *others)


Content: TypeAlias = bytes | Segments


def prefixed(head: bytes, content: Content) -> Content:
    """The content after a short head."""
    return head + content if isinstance(content, bytes) else content.prefixed(head)
