"""Tensors with raw data, as the Open Inference Protocol (V2) sends them over gRPC.

Raw data are little-endian elements in row-major order. A BYTES element begins with its length, an
unsigned integer of four bytes. `signature` checks that a tensor fits the model.
"""

import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from extproc.convert.errors import ConversionError
from sluice.contract.reasons import Reason

Raw = bytes | memoryview
Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]

ITEM_SIZE: Mapping[str, int] = {
    "BOOL": 1,
    "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8,
    "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip
"""Size of an element in bytes, by datatype. BYTES is not listed: its elements differ in length."""

DATATYPES = frozenset(ITEM_SIZE) | {"BYTES"}

MAX_OUTPUT_DIMENSIONS = 32
"""Length of an output's shape. numpy 1 has this limit too."""

_LENGTH = struct.Struct("<I")


@dataclass(slots=True)
class Tensor:
    """A named tensor. `field` is the tensor's place in the body, for error messages."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Raw
    parameters: Parameters = dataclasses.field(default_factory=dict)
    field: str = ""


def check_dimensions(count: int, max_dimensions: int, field: str) -> None:
    """Raises ConversionError (422) for a shape with too many dimensions.

    Every reader must call this before it copies or multiplies the sizes of a shape. A body has room
    for millions of sizes, and the time of their product grows with the square of their number.
    """
    if count > max_dimensions:
        raise ConversionError(
            Reason.WRONG_SHAPE, field, f"must have at most {max_dimensions} dimensions"
        )


def element_count(shape: Sequence[int]) -> int:
    """Number of elements of a tensor with this shape. `check_dimensions` has bounded its length."""
    return math.prod(shape)


def raw_element_count(data: Raw, datatype: str, field: str, stop: int | None = None) -> int:
    """Number of elements in raw data. Raises ConversionError (400, 422) if one is incomplete.

    BYTES elements are counted one by one, up to `stop`.
    """
    item = ITEM_SIZE.get(datatype)
    if item is None:
        return sum(1 for _ in islice(_bytes_spans(data, field), stop))
    if len(data) % item:
        raise ConversionError(
            Reason.WRONG_COUNT,
            field,
            f"{len(data)} bytes are not a whole number of {datatype} elements",
        )
    return len(data) // item


def pack_bytes(items: Sequence[bytes]) -> bytes:
    """Raw data of a BYTES tensor."""
    lengths = map(_LENGTH.pack, map(len, items))
    return b"".join(chain.from_iterable(zip(lengths, items, strict=True)))


def unpack_bytes(raw: Raw, field: str) -> list[bytes]:
    """Elements of a BYTES tensor. Raises ConversionError (400) if an element is incomplete."""
    buffer = bytes(raw)
    return [buffer[start:end] for start, end in _bytes_spans(buffer, field)]


def _bytes_spans(buffer: Raw, field: str) -> Iterator[tuple[int, int]]:
    """Start and end of each element of a BYTES tensor."""
    position, size = 0, len(buffer)
    while position < size:
        start = position + _LENGTH.size
        if start > size:
            raise ConversionError(
                Reason.BYTES_TRUNCATED, field, "the data end inside the length of an element"
            )
        (length,) = _LENGTH.unpack_from(buffer, position)
        position = start + length
        if position > size:
            raise ConversionError(
                Reason.BYTES_TRUNCATED,
                field,
                f"an element has a length of {length} bytes, but {size - start} bytes are left",
            )
        yield start, position
