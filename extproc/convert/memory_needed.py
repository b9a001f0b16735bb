"""Upper bounds of the memory that conversions take, known before the work."""

from extproc.convert.json_document import parsed_size
from extproc.convert.limits import ConversionLimits

_COPIES = 4
"""Copies that a conversion holds at most: body, tensor, message and its serialized form."""

_JSON_RESPONSE = 20
"""JSON text of a tensor, and the Python objects of its elements, as a multiple of the tensor."""


def decompression_memory(size: int, limits: ConversionLimits) -> int:
    """Bytes for a compressed body of `size` bytes, its data, and a copy while parts are joined."""
    return size + 2 * (limits.max_body + 1)


def request_memory(kind: str, body: bytes, limits: ConversionLimits) -> int:
    """Bytes for the conversion of a decompressed request body of this kind, with the body.

    The memory for images in the body is not included.
    """
    if kind in ("json", "untyped"):
        return len(body) + min(parsed_size(body), limits.max_json_memory)
    return _COPIES * len(body)


def response_memory(size: int) -> int:
    """Bytes for the conversion of a response body of `size` bytes, with the body."""
    return (1 + _JSON_RESPONSE) * size
