"""How gRPC delimits messages, on the wire of our own calls and in bodies that pass through
(PROTOCOL-HTTP2.md, "Length-Prefixed-Message").
"""

from struct import Struct
from typing import Final

PREFIX: Final = Struct(">BL")
"""Compressed flag, length in bytes."""
PREFIX_SIZE: Final = PREFIX.size


def frame(message: bytes) -> bytes:
    """An uncompressed message with its prefix."""
    return PREFIX.pack(0, len(message)) + message
