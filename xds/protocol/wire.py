"""Writes serialized protobuf messages whose fields hold messages that are already serialized.

In the protobuf encoding, a message is the concatenation of its fields. A message is written as a
sequence of parts, which are joined once at the end: a route table may have many megabytes.
"""

from collections.abc import Sequence
from functools import lru_cache

Parts = Sequence[bytes]
"""A serialized message, in parts."""


def field(number: int, *message: bytes) -> list[bytes]:
    """The field with a message: tag with wire type 2, length, content. Also for text and bytes."""
    return [_varint(number << 3 | 2) + _varint(sum(map(len, message))), *message]


@lru_cache(4096)  # most fields are tags and lengths of few values
def _varint(value: int) -> bytes:
    """Seven bits in each byte, the lowest first; the eighth is set in all bytes but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
