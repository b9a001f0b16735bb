"""Named tensors and the rules every one must meet; how they travel is left to the codecs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

# BF16 is missing: numpy has no such type, and no example model reads it.
DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}


class InvalidInputError(Exception):
    """The request is at fault (HTTP 400, INVALID_ARGUMENT); the text says what and where."""


class NotFoundError(Exception):
    """No such model or version on this endpoint (HTTP 404, NOT_FOUND)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model declares of one tensor; -1 stands for a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor; a BYTES tensor is an array of Python `bytes`."""

    name: str
    datatype: str
    data: Array


def dtype_of(name: str, datatype: str) -> np.dtype[np.generic]:
    """The numpy type of `datatype`; raises InvalidInputError for an unknown one."""
    try:
        return DTYPES[datatype]
    except KeyError:
        raise InvalidInputError(
            f"input {name!r}: unknown datatype {datatype!r}, expected one of {', '.join(DTYPES)}"
        ) from None


def shaped(name: str, flat: Array, shape: Sequence[int]) -> Array:
    """`flat` in the shape that was declared; raises InvalidInputError when the counts disagree."""
    if any(size < 0 for size in shape):
        raise InvalidInputError(f"input {name!r}: shape {list(shape)} has a negative dimension")
    wanted = math.prod(shape)
    if wanted != flat.size:
        raise InvalidInputError(
            f"input {name!r}: shape {list(shape)} takes {wanted} elements, {flat.size} were sent"
        )
    return flat.reshape(tuple(shape))
