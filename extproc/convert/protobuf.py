"""Requests and responses in protobuf: V2's ModelInfer messages, and our TensorRequest."""

from collections.abc import Mapping, Sequence
from typing import Literal

from google.protobuf.message import DecodeError, Message

from extproc.convert.elements import pack
from extproc.convert.errors import ConversionError, bad_model_response
from extproc.convert.limits import ConversionLimits
from extproc.convert.protobuf_wire import Nested, WireError, has_more_fields
from extproc.convert.signature import Signature, check_datatype, resolve
from extproc.convert.tensor import (
    ITEM_SIZE,
    InferenceRequest,
    InferenceResponse,
    Parameter,
    Parameters,
    Raw,
    RequestedOutput,
    Tensor,
    count_bytes,
    pack_bytes,
)
from protos import inference_pb2 as v2
from protos import tensor_pb2
from sluice.contract.reasons import Reason

# Which field of InferTensorContents carries a datatype; FP16 and BF16 have none.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}  # fmt: skip

# ModelInferRequest.raw_input_contents, length-delimited.
_RAW_INPUT_TAG = bytes([7 << 3 | 2])

# The messages in a ModelInferRequest: an entry of parameters has a value. An input's contents are
# single, so that they add up to no more than arrays.
_PARAMETER: Nested = {2: {}}
_NESTED: Nested = {4: _PARAMETER, 5: {4: _PARAMETER}, 6: {2: _PARAMETER}}

MESSAGES: Mapping[str, Literal["v2", "tensor"]] = {
    "inference.ModelInferRequest": "v2",
    "ModelInferRequest": "v2",
    "sluice.v1.TensorRequest": "tensor",
    "TensorRequest": "tensor",
}
"""What the `messageType` (or `proto`) parameter of the media type may say."""


def read_request(
    body: bytes,
    signature: Signature,
    limits: ConversionLimits,
    message: Literal["v2", "tensor"] | None = None,
) -> InferenceRequest:
    """Either message; which one is seen from its fields where the media type did not say.

    Raises ConversionError (400, 413, 415, 422).
    """
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "is empty")
    _check_fields(body, limits)
    if message != "tensor":
        request = v2.ModelInferRequest()
        if _parsed(request, body) and request.inputs:
            return _from_v2(request, limits)
        if message == "v2":
            raise ConversionError(
                Reason.NOT_PROTOBUF, "body", "is no ModelInferRequest with inputs"
            )
    tensor = tensor_pb2.TensorRequest()
    if not _parsed(tensor, body) or not tensor.data:
        raise ConversionError(
            Reason.NOT_PROTOBUF,
            "body",
            "is neither a ModelInferRequest with inputs nor a TensorRequest",
        )
    return _from_tensor(tensor, signature)


def write_request(inference: InferenceRequest, signature: Signature) -> bytes:
    """ModelInferRequest with raw contents, for this model whatever the client wrote there.

    Raises ConversionError (422) for a parameter that has no protobuf form.
    """
    request = v2.ModelInferRequest(
        model_name=signature.model,
        model_version=signature.version,
        id=inference.id,
        parameters=_written(inference.parameters, ""),
    )
    for tensor in inference.inputs:
        request.inputs.add(
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tensor.shape,
            parameters=_written(tensor.parameters, f"{tensor.field}."),
        )
    for i, output in enumerate(inference.outputs):
        request.outputs.add(
            name=output.name, parameters=_written(output.parameters, f"outputs[{i}].")
        )
    # Raw contents are appended by hand: assigned, each tensor would be copied twice more.
    pieces: list[Raw] = [request.SerializeToString()]
    for tensor in inference.inputs:
        pieces += (_RAW_INPUT_TAG, _varint(len(tensor.data)), tensor.data)
    return b"".join(pieces)


def read_response(body: bytes) -> InferenceResponse:
    """ModelInferResponse. Raises ConversionError (502)."""
    response = v2.ModelInferResponse()
    if not _parsed(response, body):
        raise bad_model_response("is no ModelInferResponse")
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise bad_model_response(f"has {len(response.outputs)} outputs and {len(raw)} raw contents")
    outputs = []
    for i, entry in enumerate(response.outputs):
        where = f"outputs[{i}]"
        data = raw[i] if raw else _typed_output(entry.contents, entry.datatype, where)
        outputs.append(
            Tensor(
                entry.name,
                entry.datatype,
                tuple(entry.shape),
                data,
                _read(entry.parameters),
                where,
            )
        )
    return InferenceResponse(
        response.model_name,
        response.model_version,
        outputs,
        _read(response.parameters),
        response.id,
    )


def write_response(answer: InferenceResponse) -> bytes:
    """ModelInferResponse with raw contents."""
    response = v2.ModelInferResponse(
        model_name=answer.model,
        model_version=answer.version,
        id=answer.id,
        parameters=_written(answer.parameters, ""),
        raw_output_contents=[bytes(tensor.data) for tensor in answer.outputs],
    )
    for tensor in answer.outputs:
        response.outputs.add(
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tensor.shape,
            parameters=_written(tensor.parameters, f"{tensor.field}."),
        )
    return response.SerializeToString()


def _check_fields(body: bytes, limits: ConversionLimits) -> None:
    try:
        too_many = has_more_fields(body, _NESTED, limits.max_fields)
    except WireError:
        raise ConversionError(Reason.NOT_PROTOBUF, "body", "is no protobuf message") from None
    if too_many:
        raise ConversionError(
            Reason.TOO_MANY_FIELDS, "body", f"has over {limits.max_fields} fields"
        )


def _parsed(message: Message, body: bytes) -> bool:
    try:
        message.ParseFromString(body)
    except DecodeError:
        return False
    return True


def _from_v2(request: v2.ModelInferRequest, limits: ConversionLimits) -> InferenceRequest:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise ConversionError(
            Reason.WRONG_ENTRY_COUNT,
            "raw_input_contents",
            f"{len(raw)} entries for {len(request.inputs)} inputs",
        )
    if not raw:
        _check_elements(request, limits)
    tensors = []
    for i, entry in enumerate(request.inputs):
        where = f"inputs[{i}]"
        check_datatype(entry.datatype, where)
        if raw and entry.HasField("contents"):
            raise ConversionError(
                Reason.DATA_TWICE, f"{where}.contents", "stands beside raw_input_contents"
            )
        data = raw[i] if raw else _typed(entry.contents, entry.datatype, where)
        parameters = _read(entry.parameters)
        tensors.append(
            Tensor(entry.name, entry.datatype, tuple(entry.shape), data, parameters, where)
        )
    outputs = [RequestedOutput(output.name, _read(output.parameters)) for output in request.outputs]
    return InferenceRequest(tensors, outputs, _read(request.parameters), request.id)


def _check_elements(request: v2.ModelInferRequest, limits: ConversionLimits) -> None:
    """Elements of BYTES become objects one by one; those of all other datatypes travel packed."""
    if sum(len(entry.contents.bytes_contents) for entry in request.inputs) > limits.max_fields:
        detail = f"have over {limits.max_fields} elements of BYTES in contents"
        raise ConversionError(Reason.TOO_MANY_FIELDS, "inputs", detail)


def _from_tensor(request: tensor_pb2.TensorRequest, signature: Signature) -> InferenceRequest:
    name, datatype, shape = request.name, request.datatype, tuple(request.shape)
    declared = signature.input(name) if name else signature.only_input("name")
    if declared is not None:
        name, datatype = declared.name, datatype or declared.datatype
    if not datatype:
        raise ConversionError(Reason.DATATYPE_MISSING, "datatype", "is empty, and none is declared")
    check_datatype(datatype, "")
    if not shape:
        if declared is None:
            raise ConversionError(Reason.SHAPE_MISSING, "shape", "is empty, and none is declared")
        shape = resolve(declared, _count(request.data, datatype), "data")
    return InferenceRequest([Tensor(name, datatype, shape, request.data)], id=request.id)


def _count(data: bytes, datatype: str) -> int:
    item = ITEM_SIZE.get(datatype)
    if item is None:
        return count_bytes(data, "data")
    if len(data) % item:
        raise ConversionError(
            Reason.WRONG_COUNT, "data", f"{len(data)} bytes are no whole number of elements"
        )
    return len(data) // item


def _typed(contents: v2.InferTensorContents, datatype: str, where: str) -> bytes:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise ConversionError(
            Reason.NO_TYPED_CONTENTS, f"{where}.contents", f"{datatype} travels only raw"
        )
    values: Sequence[object] = getattr(contents, field)
    if datatype == "BYTES":
        return pack_bytes(contents.bytes_contents)
    return pack(values, datatype, f"{where}.contents.{field}")


def _typed_output(contents: v2.InferTensorContents, datatype: str, where: str) -> bytes:
    try:
        return _typed(contents, datatype, where)
    except ConversionError as error:
        raise bad_model_response(f"{error.field}: {error.detail}") from None


def _read(parameters: Mapping[str, v2.InferParameter]) -> Parameters:
    found: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def _written(parameters: Parameters, prefix: str) -> dict[str, v2.InferParameter]:
    return {
        name: _parameter(value, f"{prefix}parameters.{name}") for name, value in parameters.items()
    }


def _parameter(value: Parameter, where: str) -> v2.InferParameter:
    if isinstance(value, bool):
        return v2.InferParameter(bool_param=value)
    if isinstance(value, str):
        return v2.InferParameter(string_param=value)
    if isinstance(value, float):
        return v2.InferParameter(double_param=value)
    if -(1 << 63) <= value < 1 << 63:
        return v2.InferParameter(int64_param=value)
    if 0 <= value < 1 << 64:
        return v2.InferParameter(uint64_param=value)
    raise ConversionError(Reason.WRONG_PARAMETER, where, "is an integer of over 64 bits")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
