"""Upper bounds of the memory that conversions take, known before the work."""

from extproc.convert.json_document import checked_size
from extproc.convert.limits import ConversionLimits
from extproc.convert.protobuf_wire import REQUEST, Nested, WireError, field_count

_COPIES = 4
"""Copies that a conversion holds at most: body, tensor, message and its serialized form."""

_FIELD = 512
"""Bytes of a field of a protobuf message: a parameter, or 16 numbers that the parser and the tensor
hold at 8 bytes each, while their arrays grow."""

_JSON_TEXT = 24
"""JSON text of a tensor, its copies, and the Python objects of BYTES elements, as a multiple of the
tensor."""


def request_memory(
    kind: str, protocol: str, body: bytes, json_head: int | None, limits: ConversionLimits
) -> int:
    """Bytes for the conversion of a decompressed request body of this kind, with the body.

    `json_head` is the length of the JSON that precedes binary tensors. The memory for images in the
    body is not included. Raises ConversionError (413) for JSON above its limit.
    """
    if json_head is not None:
        return _COPIES * len(body) + checked_size(body[:json_head], limits)
    if kind in ("json", "untyped"):
        return len(body) + checked_size(body, limits)
    if protocol == "http" and kind in ("octets", "protobuf"):
        return (_COPIES + _JSON_TEXT) * len(body)
    fields = counted_fields(body, REQUEST, limits) if kind == "protobuf" else 0
    return _COPIES * len(body) + _FIELD * fields


def response_memory(size: int, fields: int = 0) -> int:
    """Bytes for the conversion of a decompressed response body of `size` bytes, with the body.

    `fields`: those of a protobuf message that take memory.
    """
    return (1 + _JSON_TEXT) * size + _FIELD * fields


def counted_fields(body: bytes, nested: Nested, limits: ConversionLimits) -> int:
    """Fields of a protobuf message; 0 if the message will be refused before it is parsed."""
    try:
        count = field_count(body, nested, limits.max_fields)
    except WireError:
        return 0
    return count if count <= limits.max_fields else 0
