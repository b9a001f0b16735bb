"""Datatypes of the Open Inference Protocol (V2), and the elements of BYTES in raw data."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

Raw = bytes | memoryview
"""Little-endian elements in row-major order. A BYTES element begins with its length, an unsigned
integer of four bytes."""

ITEM_SIZE: Mapping[str, int] = {
    "BOOL": 1,
    "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8,
    "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip
"""Size of an element in bytes, by datatype. BYTES is not listed: its elements differ in length."""

DATATYPES = frozenset(ITEM_SIZE) | {"BYTES"}

CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}  # fmt: skip
"""The field of InferTensorContents for each datatype. FP16 and BF16 have none."""

_LENGTH: Final = struct.Struct("<I")


class TruncatedError(ValueError):
    """The raw data end inside an element of BYTES."""


def pack_bytes(items: Sequence[Raw]) -> bytes:
    """Raw data of a BYTES tensor."""
    lengths = map(_LENGTH.pack, map(len, items))
    return b"".join(chain.from_iterable(zip(lengths, items, strict=True)))


def bytes_spans(buffer: Raw) -> Iterator[tuple[int, int]]:
    """Start and end of each element of a BYTES tensor. Raises TruncatedError."""
    position, size = 0, len(buffer)
    while position < size:
        start = position + _LENGTH.size
        if start > size:
            raise TruncatedError("the data end inside the length of an element")
        (length,) = _LENGTH.unpack_from(buffer, position)
        position = start + length
        if position > size:
            raise TruncatedError(
                f"an element has a length of {length} bytes, but {size - start} bytes are left"
            )
        yield start, position
