"""Writes the heads of protobuf fields, for messages with serialized or with large content."""

from functools import lru_cache

_DELIMITED = 2
"""Wire type of a field that has a length."""


def field_head(number: int, size: int) -> bytes:
    """Tag and length of a protobuf field that holds `size` bytes or a message of this size.

    protobuf copies the content of such a field for each message around it, and holds the
    interpreter lock meanwhile. So messages with large content are written without it.
    """
    return _varint(number << 3 | _DELIMITED) + _varint(size)


@lru_cache(4096)  # most fields are tags and lengths of few values
def _varint(value: int) -> bytes:
    """Seven bits in each byte, the lowest first; the eighth is set in all bytes but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
