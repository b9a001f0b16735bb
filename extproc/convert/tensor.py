"""An inference request or response between two encodings: named tensors of raw elements.

Raw is the V2 gRPC form: little-endian elements, row-major; each BYTES element preceded by its
length in four bytes. Whether a tensor fits the model is left to `signature`.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

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
"""Bytes of one element of each datatype, but for BYTES, whose elements vary."""

DATATYPES = frozenset(ITEM_SIZE) | {"BYTES"}

_LENGTH = struct.Struct("<I")


@dataclass(slots=True)
class Tensor:
    """One tensor; `field` is where the client wrote it, for errors."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Raw
    parameters: Parameters = field(default_factory=dict)
    field: str = ""


@dataclass(slots=True)
class RequestedOutput:
    """An output that the client asked for by name."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """How the client wants the answer; made with the request, used with the response."""

    encoding: Literal["json", "binary", "protobuf"] = "json"
    form: Literal["v2", "v1"] = "v2"
    """`v1`: the request had `instances`, so the answer has `predictions`."""
    binary: frozenset[str] = frozenset()
    """Outputs to send as binary data even where the rest is JSON."""
    text: frozenset[str] = frozenset()
    """Outputs to send in JSON even where the rest is binary."""
    request_id: str = ""
    """Of a problem document, where the model server answers with an error."""


@dataclass(slots=True)
class InferenceRequest:
    """A request: what every source becomes, and every target is made of."""

    inputs: list[Tensor]
    outputs: list[RequestedOutput] = field(default_factory=list)
    parameters: Parameters = field(default_factory=dict)
    id: str = ""
    response_options: ResponseOptions = ResponseOptions()
    verbatim: bool = False
    """The body was V2 REST as it came, and can go to a REST server unchanged."""


@dataclass(slots=True)
class InferenceResponse:
    """A response."""

    model: str
    version: str
    outputs: list[Tensor]
    parameters: Parameters = field(default_factory=dict)
    id: str = ""


def element_count(shape: Sequence[int]) -> int:
    """Elements of a tensor of this shape."""
    return math.prod(shape)


def pack_bytes(items: Sequence[bytes]) -> bytes:
    """Raw form of BYTES elements."""
    pack = _LENGTH.pack
    return b"".join([piece for item in items for piece in (pack(len(item)), item)])


def unpack_bytes(raw: Raw, where: str) -> list[bytes]:
    """The elements of a raw BYTES tensor. Raises ConversionError (400) when a length overruns."""
    buffer = bytes(raw)
    return [buffer[start:end] for start, end in _spans(buffer, where)]


def count_bytes(raw: Raw, where: str) -> int:
    """How many elements a raw BYTES tensor has. Raises ConversionError (400), as `unpack_bytes`."""
    return sum(1 for _ in _spans(raw, where))


def _spans(buffer: Raw, where: str) -> Iterator[tuple[int, int]]:
    position, size = 0, len(buffer)
    while position < size:
        start = position + 4
        if start > size:
            raise ConversionError(
                Reason.BYTES_TRUNCATED, where, "ends inside the length of an element"
            )
        (length,) = _LENGTH.unpack_from(buffer, position)
        position = start + length
        if position > size:
            raise ConversionError(
                Reason.BYTES_TRUNCATED,
                where,
                f"an element claims {length} bytes, {size - start} are left",
            )
        yield start, position
