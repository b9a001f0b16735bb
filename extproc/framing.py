"""gRPC message framing (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"), shared by the transport and
by the services that handle gRPC bodies.
"""

from struct import Struct
from typing import Final

PREFIX: Final = Struct(">BL")
"""Compressed flag, length in bytes."""
PREFIX_SIZE: Final = PREFIX.size


def length_prefixed(message: bytes) -> bytes:
    """An uncompressed message with its prefix."""
    return PREFIX.pack(0, len(message)) + message
