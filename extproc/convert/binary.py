"""Reads application/octet-stream: V2's binary tensor data extension, or the data of one tensor."""

import dataclasses

from extproc.convert.errors import ConversionError
from extproc.convert.inference import InferenceRequest
from extproc.convert.json_document import as_object, as_string, parse_object
from extproc.convert.limits import ConversionLimits
from extproc.convert.signature import Signature, flat_data_shape
from extproc.convert.tensor import Parameters, Tensor, raw_element_count
from extproc.convert.v2_json import (
    read_inputs,
    read_outputs,
    read_parameters,
    read_tensor,
    read_tensor_head,
)
from sluice.contract.reasons import Reason
from sluice.media_types import HEADER_LENGTH
from sluice.tensors.datatypes import pack_bytes

BINARY_DATA_SIZE = "binary_data_size"
"""Parameter of a tensor: size in bytes of its data, which follow the JSON."""

_BINARY_DATA = "binary_data"
"""Parameter of a requested output: whether to send its data as binary."""

_BINARY_DATA_OUTPUT = "binary_data_output"
"""Parameter of a request: default of `binary_data` for all outputs."""

_MAX_LENGTH_DIGITS = 11


def read_raw(body: bytes, signature: Signature) -> InferenceRequest:
    """Read a body that is the raw data of the only input; for BYTES, the body is one element.

    Raises ConversionError (400, 422).
    """
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "must not be empty")
    declared = signature.only_input("body")
    data = pack_bytes([body]) if declared.datatype == "BYTES" else body
    shape = flat_data_shape(declared, raw_element_count(data, declared.datatype, "body"), "body")
    return InferenceRequest([Tensor(declared.name, declared.datatype, shape, data, field="body")])


def read_extended(body: bytes, header_length: str, limits: ConversionLimits) -> InferenceRequest:
    """Read a V2 request: JSON of `header_length` bytes, followed by the data of the tensors.

    Each tensor with a `binary_data_size` has that number of bytes. Raises ConversionError (400,
    413, 422).
    """
    length = json_length(header_length, len(body))
    document = parse_object(body[:length])
    inputs = read_inputs(document, limits)
    data = _Data(memoryview(body)[length:])
    tensors = [_tensor(entry, f"inputs[{i}]", data, limits) for i, entry in enumerate(inputs)]
    if data.remaining:
        raise ConversionError(
            Reason.TRAILING_BYTES, "body", f"{data.remaining} bytes follow the last tensor"
        )
    return InferenceRequest(
        tensors,
        id=as_string(document.get("id", ""), "id"),
        outputs=read_outputs(document, limits),
        parameters=read_parameters(document, ""),
        verbatim=True,
    )


def take_binary_options(request: InferenceRequest) -> InferenceRequest:
    """Move the parameters for binary outputs from the request to its `response_options`.

    A gRPC server does not know these parameters. The converter applies them to the response.
    """
    if not request.outputs and _BINARY_DATA_OUTPUT not in request.parameters:
        return request
    by_default = request.parameters.get(_BINARY_DATA_OUTPUT) is True
    options = request.response_options
    outputs, binary, text = [], set(), set()
    for output in request.outputs:
        wanted = output.parameters.get(_BINARY_DATA, by_default)
        if wanted is True:
            binary.add(output.name)
        elif wanted is False:
            text.add(output.name)
        parameters = _without(output.parameters, _BINARY_DATA)
        outputs.append(dataclasses.replace(output, parameters=parameters))
    return dataclasses.replace(
        request,
        outputs=outputs,
        parameters=_without(request.parameters, _BINARY_DATA_OUTPUT),
        response_options=dataclasses.replace(
            options,
            encoding="binary" if by_default else options.encoding,
            binary=frozenset(binary),
            text=frozenset(text),
        ),
    )


class _Data:
    """The data after the JSON. Each tensor takes the next bytes."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    @property
    def remaining(self) -> int:
        return len(self._buffer)

    def take(self, size: int) -> memoryview:
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece


def json_length(header: str, body_length: int) -> int:
    """Length of the JSON in a body, from the header. Raises ConversionError (400)."""
    if not (header.isascii() and header.isdigit() and len(header) <= _MAX_LENGTH_DIGITS):
        raise ConversionError(Reason.BAD_HEADER_LENGTH, HEADER_LENGTH, "must be a number of bytes")
    length = int(header)
    if length > body_length:
        raise ConversionError(
            Reason.BAD_HEADER_LENGTH,
            HEADER_LENGTH,
            f"must be at most {body_length}, the length of the body",
        )
    return length


def _tensor(entry: object, field: str, data: _Data, limits: ConversionLimits) -> Tensor:
    members = as_object(entry, field)
    parameters = read_parameters(members, f"{field}.")
    size = parameters.get(BINARY_DATA_SIZE)
    if size is None:
        return read_tensor(members, field, limits)
    if "data" in members:
        raise ConversionError(
            Reason.DATA_TWICE, f"{field}.data", f"must not be set together with {BINARY_DATA_SIZE}"
        )
    if type(size) is not int or not 0 <= size <= data.remaining:
        raise ConversionError(
            Reason.BAD_DATA_SIZE,
            f"{field}.parameters.{BINARY_DATA_SIZE}",
            f"must be an integer from 0 to {data.remaining}, the number of bytes left in the body",
        )
    name, datatype, shape = read_tensor_head(members, field, limits)
    parameters = _without(parameters, BINARY_DATA_SIZE)
    return Tensor(name, datatype, shape, data.take(size), parameters, field)


def _without(members: Parameters, name: str) -> Parameters:
    return {key: value for key, value in members.items() if key != name}
