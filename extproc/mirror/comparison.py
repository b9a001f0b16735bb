"""Compares two answers to the same request. Pure; it imports numpy when it is first used.

Answers agree if they have the same status, and

- both have tensors: the same names, datatypes and shapes, and the same classes in the outputs with
  labels, or without labels in the first output that has classes,
- or else the same bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from extproc.convert.content_coding import decompress_response, response_codings
from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.framing import PREFIX, PREFIX_SIZE
from extproc.mirror.answer import Answer
from sluice.media_types import GRPC, HEADER_LENGTH, is_json, media_type_name

if TYPE_CHECKING:
    from extproc.convert.tensor import Tensor
    from sluice.tensors.elements import Array

_NOT_NUMBERS: Final = ("BYTES", "BOOL")
_FLOATS: Final = ("FP16", "BF16", "FP32", "FP64")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result. The differences are the largest of two finite numbers at the same place.

    `relative`: the difference, divided by the larger of both amounts.
    """

    agreed: bool
    absolute: float = 0.0
    relative: float = 0.0


def compare(
    one: Answer, other: Answer, outputs: frozenset[str], limits: ConversionLimits
) -> Comparison:
    """Compare two answers. `outputs`: the names of the outputs with labels."""
    if (one.status, one.grpc_status) != (other.status, other.grpc_status):
        return Comparison(agreed=False)
    if not one.ok:
        # Both refuse the request. The texts of errors may name the version.
        return Comparison(agreed=True)
    try:
        bodies = _content(one, limits), _content(other, limits)
    except ConversionError:
        return Comparison(agreed=one.body == other.body)
    tensors = [
        _tensors(answer, body, limits) for answer, body in zip((one, other), bodies, strict=True)
    ]
    if tensors[0] is None or tensors[1] is None:
        return Comparison(agreed=bodies[0] == bodies[1])
    return _compare_tensors(tensors[0], tensors[1], outputs)


def _content(answer: Answer, limits: ConversionLimits) -> bytes:
    """The content without its coding. Raises ConversionError."""
    if _is_grpc(answer):
        compressed, length = _prefix(answer.body)
        body = answer.body[PREFIX_SIZE:]
        if length != len(body):
            return answer.body
        coding = answer.headers.get("grpc-encoding", "") if compressed else ""
    else:
        body, coding = answer.body, answer.headers.get("content-encoding", "")
    codings = response_codings(coding, limits)
    return decompress_response(body, codings, limits.max_response) if codings else body


def _prefix(body: bytes) -> tuple[bool, int]:
    compressed, length = PREFIX.unpack_from(body) if len(body) >= PREFIX_SIZE else (0, -1)
    return bool(compressed), length


def _is_grpc(answer: Answer) -> bool:
    return media_type_name(answer.headers.get("content-type", "")) == GRPC


def _tensors(answer: Answer, body: bytes, limits: ConversionLimits) -> "list[Tensor] | None":
    """The outputs of a response of the Open Inference Protocol; None for another response."""
    if _is_grpc(answer):
        from extproc.convert.grpc_response import read_response

        try:
            return read_response(body, limits).outputs or None
        except ConversionError:
            return None
    header_length = answer.headers.get(HEADER_LENGTH)
    if header_length is None and not is_json(
        media_type_name(answer.headers.get("content-type", ""))
    ):
        return None
    from extproc.convert.rest_tensors import read_tensors

    return read_tensors(body, header_length, limits)


def _compare_tensors(
    one: "list[Tensor]", other: "list[Tensor]", outputs: frozenset[str]
) -> Comparison:
    named = {each.name: each for each in other}
    alike = len(one) == len(other) == len(named) and all(
        each.name in named and _form(each) == _form(named[each.name]) for each in one
    )
    if not alike:
        return Comparison(agreed=False)
    pairs = [(each, named[each.name]) for each in one]
    agreed = all(_same_classes(*pair) for pair in _with_classes(pairs, outputs))
    absolute = relative = 0.0
    for pair in pairs:
        if pair[0].datatype in _NOT_NUMBERS:
            continue
        difference = _difference(*map(_numbers, pair))
        agreed = agreed and difference.agreed
        absolute = max(absolute, difference.absolute)
        relative = max(relative, difference.relative)
    return Comparison(agreed, absolute, relative)


def _form(tensor: "Tensor") -> tuple[str, tuple[int, ...]]:
    return tensor.datatype, tensor.shape


def _with_classes(
    pairs: "list[tuple[Tensor, Tensor]]", outputs: frozenset[str]
) -> "Iterator[tuple[Tensor, Tensor]]":
    """The outputs with labels, or else the first one that has classes."""
    labeled = [pair for pair in pairs if pair[0].name in outputs]
    if labeled:
        yield from labeled
        return
    first = next((pair for pair in pairs if _has_classes(pair[0])), None)
    if first is not None:
        yield first


def _has_classes(tensor: "Tensor") -> bool:
    """Whether a tensor has one class or several scores in each row."""
    return tensor.datatype not in _FLOATS or (bool(tensor.shape) and tensor.shape[-1] > 1)


def _same_classes(one: "Tensor", other: "Tensor") -> bool:
    if one.datatype not in _FLOATS:
        return bytes(one.data) == bytes(other.data)
    if not one.shape or 0 in one.shape:
        return True
    top = [_numbers(each).reshape(-1, one.shape[-1]).argmax(axis=1) for each in (one, other)]
    return bool((top[0] == top[1]).all())


def _numbers(tensor: "Tensor") -> "Array":
    from sluice.tensors.elements import array

    return array(tensor.data, tensor.datatype)


def _difference(one: "Array", other: "Array") -> Comparison:
    """The largest differences. `agreed`: NaN and infinity stand at the same places."""
    import numpy as np

    first, second = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(first) & np.isfinite(second)
    agreed = bool(np.array_equal(first[~finite], second[~finite], equal_nan=True))
    first, second = first[finite], second[finite]
    if not first.size:
        return Comparison(agreed)
    with np.errstate(over="ignore"):
        absolute = np.minimum(np.abs(first - second), np.finfo(np.float64).max)
    amount = np.maximum(np.abs(first), np.abs(second))
    relative = np.divide(absolute, amount, out=np.zeros_like(absolute), where=amount > 0)
    return Comparison(agreed, float(absolute.max()), float(relative.max()))
