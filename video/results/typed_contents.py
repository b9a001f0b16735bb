"""Reads typed contents of an output, also those of another type than its datatype."""

from collections.abc import Callable, Sequence

import numpy as np

from protos import inference_pb2 as v2
from sluice.config.tensors import INTEGER_DATATYPES
from sluice.tensors.datatypes import CONTENTS
from sluice.tensors.elements import DTYPES, Array


def typed_elements(
    contents: v2.InferTensorContents, datatype: str, take: Callable[[int, int], None]
) -> Array | list[bytes]:
    """The elements, flat. FP16 and BF16 have no contents of their own.

    `take` gets the number of elements, and of bytes of BYTES, before they are copied. Raises
    ValueError, TypeError or OverflowError for elements that the datatype does not have.
    """
    present = {descriptor.name: values for descriptor, values in contents.ListFields()}
    own = CONTENTS.get(datatype, "")
    member = own if own in present else next(iter(present), own)
    if (member == "bytes_contents") != (datatype == "BYTES"):
        raise ValueError(f"has {member} for the datatype {datatype}")
    if datatype == "BYTES":
        texts = list(contents.bytes_contents)
        take(len(texts), sum(map(len, texts)))
        return texts
    values: Sequence[float] = present.get(member, ())
    take(len(values), 0)
    return _numbers(list(values), datatype)


def _numbers(values: list[float], datatype: str) -> Array:
    if datatype in INTEGER_DATATYPES:
        # numpy refuses integers out of the range of the datatype.
        return np.array([_integer(value) for value in values], dtype=DTYPES[datatype])
    dtype = np.dtype("<f4") if datatype == "BF16" else DTYPES[datatype]
    with np.errstate(over="ignore"):
        return np.array(values, dtype=dtype)


def _integer(value: float) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} is not an integer")
    return int(value)
