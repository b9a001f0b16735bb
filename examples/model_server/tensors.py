"""Named tensors, and checks of their datatypes and shapes. The codecs read and write tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

# numpy has no BF16.
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
    """An invalid request (HTTP 400, gRPC INVALID_ARGUMENT)."""


class NotFoundError(Exception):
    """An unknown model or version (HTTP 404, gRPC NOT_FOUND)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Declaration of a tensor. A dimension of -1 may have any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named tensor. A BYTES tensor is an array of Python `bytes`."""

    name: str
    datatype: str
    data: Array


def dtype_of(name: str, datatype: str) -> np.dtype[np.generic]:
    """The numpy type of a V2 datatype; raises InvalidInputError for an unsupported datatype."""
    try:
        return DTYPES[datatype]
    except KeyError:
        raise InvalidInputError(
            f"input {name!r}: unknown datatype {datatype!r}, expected one of {', '.join(DTYPES)}"
        ) from None


def reshape(name: str, flat: Array, shape: Sequence[int]) -> Array:
    """Reshapes a flat array; raises InvalidInputError if the number of elements does not fit."""
    if any(size < 0 for size in shape):
        raise InvalidInputError(f"input {name!r}: shape {list(shape)} has a negative dimension")
    expected = math.prod(shape)
    if expected != flat.size:
        raise InvalidInputError(
            f"input {name!r}: shape {list(shape)} needs {expected} elements, got {flat.size}"
        )
    return flat.reshape(tuple(shape))
