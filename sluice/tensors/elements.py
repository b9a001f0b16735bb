"""Elements of raw data as numpy arrays."""

import numpy as np
import numpy.typing as npt

from sluice.tensors.datatypes import Raw

Array = npt.NDArray[np.generic]

DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"), "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
"""The dtype of the raw elements, by datatype. numpy has none for BF16 and BYTES."""


def array(raw: Raw, datatype: str) -> Array:
    """A flat array of raw elements; BF16 becomes FP32. Raises ValueError if one is incomplete."""
    if datatype == "BOOL":
        # A numpy bool other than 0 and 1 is undefined behavior.
        return np.frombuffer(raw, dtype=np.uint8).astype(np.bool_)
    if datatype == "BF16":
        wide = np.frombuffer(raw, dtype=np.uint16).astype(np.uint32) << np.uint32(16)
        single: Array = wide.view(np.float32)
        return single
    values: Array = np.frombuffer(raw, dtype=DTYPES[datatype])
    # orjson reads elements through aligned pointers.
    return values if values.flags.aligned else values.copy()


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the nearest BF16 numbers, ties to even. Values must be finite."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded: npt.NDArray[np.uint16] = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    return rounded
