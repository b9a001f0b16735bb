"""Writes responses of the V1 protocol (TensorFlow Serving), for requests with `instances`."""

import base64
import math
from collections.abc import Iterable, Mapping
from itertools import takewhile

import numpy as np

from extproc.convert.errors import response_too_large
from extproc.convert.inference import InferenceResponse
from extproc.convert.json_array import json_array, json_object, json_rows
from extproc.convert.tensor import Tensor, unpack_bytes
from sluice.tensors.elements import Array, array

_MAX_EMPTY_ARRAYS = 1 << 16
"""Arrays without elements in a document. A server can name any number of them in a shape, and they
take no memory in its response."""

_MAX_NAME_TEXT = 32 << 20
"""Bytes of the names of outputs in all rows. A name is once in the response of the server."""


def predictions(response: InferenceResponse) -> bytes:
    """A JSON document with the outputs of a response, see `write_predictions`."""
    return write_predictions({tensor.name: _nested(tensor) for tensor in response.outputs})


def write_predictions(columns: Mapping[str, Array]) -> bytes:
    """A JSON document with `predictions`, one for each row of the outputs.

    It has `outputs` instead if the outputs differ in their number of rows. Raises ConversionError
    (502) for a document that would be much larger than the response.
    """
    _check_empty_arrays(values.shape for values in columns.values() if not values.size)
    if len(columns) == 1:
        return b'{"predictions":%b}' % json_array(next(iter(columns.values())))
    rows = {values.shape[0] if values.ndim else None for values in columns.values()}
    if len(rows) != 1 or rows == {None}:
        # TensorFlow Serving's column format.
        return b'{"outputs":%b}' % json_object(columns)
    names = sum(map(len, columns))
    if len(next(iter(columns.values()))) * names > _MAX_NAME_TEXT:
        raise response_too_large(
            f"the names of its outputs would take more than {_MAX_NAME_TEXT} bytes in all rows"
        )
    return b'{"predictions":%b}' % json_rows(columns)


def in_shape(elements: Array, shape: tuple[int, ...]) -> Array:
    """The elements as nested arrays, which have no elements if the shape contains 0.

    Raises ConversionError (502) for too many arrays without elements.
    """
    if not elements.size:
        _check_empty_arrays((shape,))
        # numpy refuses large sizes after a 0, which have no effect on the arrays.
        shape = shape[: shape.index(0) + 1]
    return elements.reshape(shape)


def _check_empty_arrays(shapes: Iterable[tuple[int, ...]]) -> None:
    if sum(math.prod(takewhile(bool, shape)) for shape in shapes) > _MAX_EMPTY_ARRAYS:
        raise response_too_large(f"has more than {_MAX_EMPTY_ARRAYS} arrays without elements")


def _nested(tensor: Tensor) -> Array:
    if tensor.datatype != "BYTES":
        return in_shape(array(tensor.data, tensor.datatype), tensor.shape)
    items = unpack_bytes(tensor.data, tensor.field)
    flat = np.empty(len(items), dtype=object)
    flat[:] = [_text(item) for item in items]
    return in_shape(flat, tensor.shape)


def _text(item: bytes) -> object:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}
