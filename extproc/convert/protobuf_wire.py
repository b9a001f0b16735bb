"""Counts the fields of a serialized protobuf message before it is parsed.

The parser creates an object of 60 to 100 bytes for an empty nested message, which takes two bytes
on the wire, and up to 8 bytes for a packed number, which takes one. It holds the interpreter lock
meanwhile. So the fields must be counted before a body is parsed.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

Nested: TypeAlias = Mapping[int, "Nested | Literal['packed']"]
"""Field numbers of nested messages, each with the nested messages in it, and of packed varints."""

# Messages in a ModelInferRequest: parameters have a value, inputs and outputs have parameters, and
# inputs have contents. A shape and the contents of integer datatypes and BOOL are packed varints.
# The field 12 is the shape of a TensorRequest.
_PARAMETER: Nested = {2: {}}
_CONTENTS_FIELDS: Nested = dict.fromkeys((1, 2, 3, 4, 5), "packed")
_INPUT: Nested = {3: "packed", 4: _PARAMETER, 5: _CONTENTS_FIELDS}
REQUEST: Nested = {4: _PARAMETER, 5: _INPUT, 6: {2: _PARAMETER}, 12: "packed"}
"""Of a ModelInferRequest or TensorRequest."""

# Elements of contents are not counted: they take less memory than the conversion of a response of
# the same size may take.
RESPONSE: Nested = {4: _PARAMETER, 5: {4: _PARAMETER}}
"""Of a ModelInferResponse."""

METADATA: Nested = {4: {}, 5: {}}
"""Of a ModelMetadataResponse."""

NUMBERS_OF_A_FIELD = 16
"""Packed varints that count as one more field."""

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_CONTINUED = bytes(range(0x80, 0x100))
"""Bytes of a varint before its last byte."""


class WireError(ValueError):
    """The bytes are not a proto3 message. proto3 has no groups, so a group is an error too."""


def has_more_fields(body: bytes, nested: Nested, limit: int) -> bool:
    """Whether a message and its `nested` messages have more than `limit` fields.

    A packed repeated field counts as one, and its varints as more. Counting stops at the limit.
    Raises WireError.
    """
    if len(body) <= 2 * limit:
        # A field takes at least two bytes.
        return False
    return field_count(body, nested, limit) > limit


def field_count(body: bytes, nested: Nested, limit: int) -> int:
    """Number of fields of a message and its `nested` messages; more than `limit` if it is exceeded.

    Raises WireError.
    """
    try:
        return limit - _remaining(body, 0, len(body), nested, limit)
    except IndexError:
        raise WireError from None


def _remaining(body: bytes, position: int, end: int, nested: Nested, limit: int) -> int:
    """The limit minus the number of fields from `position` to `end`; negative if exceeded."""
    while position < end and limit >= 0:
        limit -= 1
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
                limit = _after(body, start, position, inner, limit)
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
    return limit


def _after(
    body: bytes, start: int, end: int, inner: "Nested | Literal['packed']", limit: int
) -> int:
    """The limit minus the fields in a nested message or a packed field."""
    if inner == "packed":
        return limit - len(body[start:end].translate(None, _CONTINUED)) // NUMBERS_OF_A_FIELD
    return _remaining(body, start, end, inner, limit)


def _varint(body: bytes, position: int) -> tuple[int, int]:
    """A number and the position after it. Raises IndexError at the end of the body."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError
