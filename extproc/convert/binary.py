"""Reads what arrives as application/octet-stream: V2's binary tensor data, or one raw tensor."""

import dataclasses

from extproc.convert.errors import ConversionError
from extproc.convert.json_request import (
    parse,
    read_head,
    read_outputs,
    read_parameters,
    read_tensor,
)
from extproc.convert.limits import ConversionLimits
from extproc.convert.media_types import BINARY_HEADER
from extproc.convert.signature import Signature, resolve
from extproc.convert.tensor import ITEM_SIZE, InferenceRequest, Parameters, Tensor, pack_bytes
from sluice.contract.reasons import Reason

_SIZE = "binary_data_size"
_WANTED = "binary_data"
_WANTED_ALL = "binary_data_output"


def read_raw(body: bytes, signature: Signature) -> InferenceRequest:
    """A body that is the elements of the model's only input; for BYTES, one element.

    Raises ConversionError (400, 422).
    """
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "is empty")
    declared = signature.only_input("body")
    item = ITEM_SIZE.get(declared.datatype)
    if item is None:
        body, count = pack_bytes([body]), 1
    elif len(body) % item:
        raise ConversionError(
            Reason.WRONG_COUNT,
            "body",
            f"{len(body)} bytes are no whole number of {declared.datatype}",
        )
    else:
        count = len(body) // item
    shape = resolve(declared, count, "body")
    return InferenceRequest([Tensor(declared.name, declared.datatype, shape, body, field="body")])


def read_extended(body: bytes, header_length: str, limits: ConversionLimits) -> InferenceRequest:
    """JSON of `header_length` bytes, then the tensors that it gives a `binary_data_size`.

    Raises ConversionError (400, 422).
    """
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
        raise ConversionError(Reason.BAD_HEADER_LENGTH, BINARY_HEADER, "must be a number of bytes")
    length = int(header_length)
    if length > len(body):
        raise ConversionError(Reason.BAD_HEADER_LENGTH, BINARY_HEADER, f"{length} exceeds the body")
    document = parse(body[:length], limits)
    inputs = document.get("inputs")
    if not isinstance(inputs, list):
        raise ConversionError(Reason.WRONG_TYPE, "inputs", "must be an array")
    cursor = _Cursor(memoryview(body)[length:])
    tensors = [_tensor(entry, f"inputs[{i}]", cursor, limits) for i, entry in enumerate(inputs)]
    if cursor.left:
        raise ConversionError(
            Reason.TRAILING_BYTES, "body", f"{cursor.left} bytes follow the last tensor"
        )
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise ConversionError(Reason.WRONG_TYPE, "id", "must be a string")
    return InferenceRequest(
        tensors, read_outputs(document), read_parameters(document, ""), identity, verbatim=True
    )


def with_binary_reply(inference: InferenceRequest) -> InferenceRequest:
    """Takes the extension's output parameters out of a request, and into its `reply`.

    A server that speaks gRPC sends every tensor raw, and need not hear of them.
    """
    everything = inference.parameters.get(_WANTED_ALL) is True
    binary = {o.name for o in inference.outputs if o.parameters.get(_WANTED, everything) is True}
    text = {o.name for o in inference.outputs if o.parameters.get(_WANTED, everything) is False}
    for output in inference.outputs:
        output.parameters = _without(output.parameters, _WANTED)
    inference.parameters = _without(inference.parameters, _WANTED_ALL)
    inference.response_options = dataclasses.replace(
        inference.response_options,
        encoding="binary" if everything else inference.response_options.encoding,
        binary=frozenset(binary),
        text=frozenset(text),
    )
    return inference


class _Cursor:
    """Hands out a buffer piece by piece."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    @property
    def left(self) -> int:
        return len(self._buffer)

    def take(self, size: int) -> memoryview:
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece


def _tensor(entry: object, where: str, cursor: _Cursor, limits: ConversionLimits) -> Tensor:
    if not isinstance(entry, dict):
        raise ConversionError(Reason.WRONG_TYPE, where, "must be an object")
    parameters = read_parameters(entry, f"{where}.")
    size = parameters.get(_SIZE)
    if size is None:
        return read_tensor(entry, where, limits)
    if "data" in entry:
        raise ConversionError(Reason.DATA_TWICE, f"{where}.data", f"stands beside {_SIZE}")
    if type(size) is not int or not 0 <= size <= cursor.left:
        raise ConversionError(
            Reason.BAD_DATA_SIZE,
            f"{where}.parameters.{_SIZE}",
            f"must be a number of bytes; {cursor.left} are left in the body",
        )
    name, datatype, shape = read_head(entry, where)
    return Tensor(name, datatype, shape, cursor.take(size), _without(parameters, _SIZE), where)


def _without(members: Parameters, name: str) -> Parameters:
    return {key: value for key, value in members.items() if key != name}
