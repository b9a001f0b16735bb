"""Reads the elements of model servers' responses leniently.

Requests are read strictly (`elements`): a client learns of its mistake at once. A client can do
nothing about the mistakes of a server.
"""

from collections.abc import Sequence

import numpy as np

from extproc.convert.elements import CHUNK, pack
from sluice.config.tensors import INTEGER_DATATYPES
from sluice.tensors.datatypes import DATATYPES
from sluice.tensors.elements import to_bf16
from sluice.tensors.labels import Floats


def integers(values: Sequence[object]) -> list[int]:
    """Integers; `1.0` and "1" are integers too. Raises ValueError, TypeError or OverflowError."""
    return [_integer(value) for value in values]


def floats(values: Sequence[object], datatype: str) -> Floats:
    """Numbers, single for datatypes of up to 32 bits; null and "NaN" are NaN, overflow is infinity.

    Raises ValueError or TypeError. numpy gets the values in chunks, so that other threads can run
    in between.
    """
    starts = range(0, max(1, len(values)), CHUNK)
    double = np.concatenate([np.array(values[i : i + CHUNK], dtype=np.float64) for i in starts])
    if datatype == "FP64" or datatype not in DATATYPES:
        return double
    with np.errstate(over="ignore"):
        return double.astype(np.float32)


def raw_data(values: Sequence[object], datatype: str, field: str) -> bytes:
    """Raw data of numbers. Raises ConversionError, ValueError, TypeError or OverflowError.

    The values are packed in chunks like those of `pack`.
    """
    starts = range(0, len(values), CHUNK)
    return b"".join([_chunk(values[i : i + CHUNK], datatype, field) for i in starts])


def _chunk(values: Sequence[object], datatype: str, field: str) -> bytes:
    if datatype == "BOOL":
        return pack([bool(value) for value in values], datatype, field)
    if datatype in INTEGER_DATATYPES:
        return pack(integers(values), datatype, field)
    numbers = floats(values, datatype)
    if datatype == "BF16":
        single = numbers.astype("<f4")
        # `to_bf16` is only for finite numbers. The upper bytes of the others are right.
        upper = (single.view("<u4") >> np.uint32(16)).astype("<u2")
        return np.where(np.isfinite(single), to_bf16(single), upper).astype("<u2").tobytes()
    with np.errstate(over="ignore"):
        return numbers.astype({"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}[datatype]).tobytes()


def _integer(value: object) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    if isinstance(value, int | float | str):
        return int(value)
    raise TypeError
