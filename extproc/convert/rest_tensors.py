"""Reads the outputs of a REST model server as tensors, to compare them. It reads leniently.

The data of an output are JSON, or follow the JSON (binary tensor data extension).
"""

import numpy as np

from extproc.convert.binary import BINARY_DATA_SIZE, json_length
from extproc.convert.elements import flatten, pack_texts
from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.convert.response_elements import raw_data
from extproc.convert.rest_response import Document, of_response, output_shape, read_document
from extproc.convert.tensor import Tensor, raw_element_count
from sluice.tensors.datatypes import DATATYPES, Raw
from sluice.tensors.shapes import MAX_OUTPUT_DIMENSIONS, fitting_shape


def read_tensors(
    body: bytes, header_length: str | None, limits: ConversionLimits
) -> list[Tensor] | None:
    """The outputs of a response; None if it is no response of the Open Inference Protocol.

    `header_length`: the length of the JSON, if binary data follow it.
    """
    try:
        length = len(body) if header_length is None else json_length(header_length, len(body))
        document = read_document(body[:length], limits)
        outputs = None if document is None else document.get("outputs")
        if not isinstance(outputs, list):
            return None
        data = _Rest(memoryview(body)[length:])
        return [_tensor(output, data, limits) for output in outputs]
    except (ConversionError, TypeError, ValueError, OverflowError):
        return None


class _Rest:
    """The binary data after the JSON, taken in order."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: int) -> memoryview:
        if not 0 <= size <= len(self._data):
            raise ValueError
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def _tensor(output: object, rest: _Rest, limits: ConversionLimits) -> Tensor:
    """Raises ConversionError, TypeError, ValueError or OverflowError if it is no tensor."""
    if not isinstance(output, dict):
        raise TypeError
    name, datatype = str(output.get("name")), str(output.get("datatype")).upper()
    if datatype not in DATATYPES:
        raise ValueError
    parameters = output.get("parameters")
    size = parameters.get(BINARY_DATA_SIZE) if isinstance(parameters, dict) else None
    if isinstance(size, int):
        data: Raw = rest.take(size)
        return Tensor(name, datatype, _declared_shape(output, data, datatype), data)
    flat, nesting = flatten(output.get("data"), "data", of_response(limits))
    if datatype == "BYTES":
        data = pack_texts([str(value).encode(errors="surrogatepass") for value in flat])
    else:
        data = raw_data(flat, datatype, "data")
    return Tensor(name, datatype, output_shape(output.get("shape"), nesting, len(flat)), data)


def _declared_shape(output: Document, data: Raw, datatype: str) -> tuple[int, ...]:
    sizes = output.get("shape")
    if not isinstance(sizes, list) or len(sizes) > MAX_OUTPUT_DIMENSIONS:
        raise TypeError
    shape = fitting_shape(
        tuple(int(size) for size in np.asarray(sizes, dtype=np.int64)),
        raw_element_count(data, datatype, "data"),
    )
    if shape is None:
        raise ValueError
    return shape
