"""What precedes bytes on the wire: the prefix of gRPC messages (PROTOCOL-HTTP2.md,
"Length-Prefixed-Message") and the head of protobuf fields.

The transport, the services that handle gRPC bodies, and the conversion share it.
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


def field_head(number: int, size: int) -> bytes:
    """Tag and length of a protobuf field that holds `size` bytes or a message of this size.

    protobuf copies the content of such a field for each message around it, and holds the
    interpreter lock meanwhile. So messages with large content are written without it.
    """
    return _varint(number << 3 | _DELIMITED) + _varint(size)


_DELIMITED = 2
"""Wire type of a field that has a length."""


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
