"""Tensors with raw data, as the Open Inference Protocol (V2) sends them over gRPC.

`signature` checks that a tensor fits the model.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from extproc.convert.errors import ConversionError
from sluice.contract.reasons import Reason
from sluice.tensors.datatypes import ITEM_SIZE, Raw, TruncatedError, bytes_spans

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]


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


def unpack_bytes(raw: Raw, field: str) -> list[bytes]:
    """Elements of a BYTES tensor. Raises ConversionError (400) if an element is incomplete."""
    buffer = bytes(raw)
    return [buffer[start:end] for start, end in _bytes_spans(buffer, field)]


def _bytes_spans(buffer: Raw, field: str) -> Iterator[tuple[int, int]]:
    """Start and end of each element of a BYTES tensor."""
    try:
        yield from bytes_spans(buffer)
    except TruncatedError as error:
        raise ConversionError(Reason.BYTES_TRUNCATED, field, str(error)) from None
