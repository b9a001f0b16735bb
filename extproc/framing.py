"""The prefix of gRPC messages on the wire (PROTOCOL-HTTP2.md, "Length-Prefixed-Message").

The transport and the services that handle gRPC bodies share it.
"""

from struct import Struct
from typing import Final

from extproc.segments import Content, prefixed

PREFIX: Final = Struct(">BL")
"""Compressed flag, length in bytes."""
PREFIX_SIZE: Final = PREFIX.size


def length_prefixed(message: bytes) -> bytes:
    """An uncompressed message with its prefix."""
    return PREFIX.pack(0, len(message)) + message


def length_prefixed_content(message: Content) -> Content:
    """The same for a message that may stand in several buffers."""
    return prefixed(PREFIX.pack(0, len(message)), message)
