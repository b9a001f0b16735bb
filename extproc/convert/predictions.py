"""Writes responses of the V1 protocol (TensorFlow Serving), for requests with `instances`."""

import base64
from collections.abc import Mapping

import numpy as np

from extproc.convert.elements import Array, array
from extproc.convert.inference import InferenceResponse
from extproc.convert.json_array import json_array, json_object, json_rows
from extproc.convert.tensor import Tensor, unpack_bytes


def predictions(response: InferenceResponse) -> bytes:
    """A JSON document with the outputs of a response, see `write_predictions`."""
    return write_predictions({tensor.name: _nested(tensor) for tensor in response.outputs})


def write_predictions(columns: Mapping[str, Array]) -> bytes:
    """A JSON document with `predictions`, one for each row of the outputs.

    It has `outputs` instead if the outputs differ in their number of rows.
    """
    if len(columns) == 1:
        return b'{"predictions":%b}' % json_array(next(iter(columns.values())))
    rows = {values.shape[0] if values.ndim else None for values in columns.values()}
    if len(rows) != 1 or rows == {None}:
        # TensorFlow Serving's column format.
        return b'{"outputs":%b}' % json_object(columns)
    return b'{"predictions":%b}' % json_rows(columns)


def _nested(tensor: Tensor) -> Array:
    if tensor.datatype != "BYTES":
        return array(tensor.data, tensor.datatype).reshape(tensor.shape)
    items = unpack_bytes(tensor.data, tensor.field)
    flat = np.empty(len(items), dtype=object)
    flat[:] = [_text(item) for item in items]
    return flat.reshape(tensor.shape)


def _text(item: bytes) -> object:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}
