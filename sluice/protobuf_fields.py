"""Writes lengths and the heads of fields of protobuf, around content that is serialized already."""

from functools import lru_cache

_DELIMITED = 2
"""Wire type of a field that has a length."""


def field_head(number: int, size: int) -> bytes:
    """Tag and length of a protobuf field that holds `size` bytes or a message of this size.

    protobuf copies the content of such a field for each message around it, and holds the
    interpreter lock meanwhile. So messages with large content are written without it.
    """
    return varint(number << 3 | _DELIMITED) + varint(size)


@lru_cache(4096)  # most fields are tags and lengths of few values
def varint(value: int) -> bytes:
    """A number as protobuf writes it: seven bits in each byte, the lowest first.

    The eighth bit is set in all bytes but the last.
    """
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
