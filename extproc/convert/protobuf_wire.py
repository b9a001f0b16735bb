"""Protobuf's wire format, counted without being parsed.

A parser makes an object of 60 to 100 bytes from an empty message, which is two bytes on the wire:
what a body would take is to be known before.
"""

from collections.abc import Mapping
from typing import TypeAlias

Nested: TypeAlias = Mapping[int, "Nested"]
"""The fields of a message, by number, that are messages, each with its own such fields."""

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class WireError(ValueError):
    """The bytes are no message, or one with groups, which proto3 does not have."""


def has_more_fields(body: bytes, nested: Nested, limit: int) -> bool:
    """Whether a message has over `limit` fields, those of `nested` messages included.

    What is packed into one field counts as one. Stops at the limit. Raises WireError.
    """
    if len(body) <= 2 * limit:
        # A field takes two bytes at least.
        return False
    try:
        return _left(body, 0, len(body), nested, limit) < 0
    except IndexError:
        raise WireError from None


def _left(body: bytes, position: int, end: int, nested: Nested, left: int) -> int:
    """What is left of the limit after the fields from `position` to `end`; below 0: too little."""
    while position < end and left >= 0:
        left -= 1
        tag = body[position]
        position += 1
        if tag > 0x7F:
            tag, position = _varint(body, position - 1)
        kind = tag & 7
        if kind == _DELIMITED:
            length = body[position]
            position += 1
            if length > 0x7F:
                length, position = _varint(body, position - 1)
            start, position = position, position + length
            inner = nested.get(tag >> 3)
            if inner is not None and position <= end:
                left = _left(body, start, position, inner, left)
        elif kind == _VARINT:
            position = _varint(body, position)[1]
        elif kind == _FIXED32:
            position += 4
        elif kind == _FIXED64:
            position += 8
        else:
            raise WireError
    if position > end:
        raise WireError
    return left


def _varint(body: bytes, position: int) -> tuple[int, int]:
    """A number and the position behind it. Raises IndexError at the end of the body."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError
