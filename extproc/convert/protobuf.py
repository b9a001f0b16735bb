"""Reads and writes protobuf: V2's ModelInferRequest and ModelInferResponse, and TensorRequest."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

from google.protobuf.message import DecodeError, Message

from extproc.convert.elements import pack, pack_texts
from extproc.convert.errors import ConversionError, bad_model_response, response_too_large
from extproc.convert.inference import InferenceRequest, InferenceResponse, RequestedOutput
from extproc.convert.json_document import member_field
from extproc.convert.limits import ConversionLimits
from extproc.convert.protobuf_wire import (
    NUMBERS_OF_A_FIELD,
    REQUEST,
    Nested,
    WireError,
    has_more_fields,
)
from extproc.convert.signature import Signature, check_datatype, check_entry_count, flat_data_shape
from extproc.convert.tensor import (
    Parameter,
    Parameters,
    Tensor,
    check_dimensions,
    raw_element_count,
)
from extproc.segments import Buffer, Content, Segments
from protos import inference_pb2 as v2
from protos import tensor_pb2
from sluice.contract.reasons import Reason
from sluice.protobuf_fields import field_head
from sluice.tensors.datatypes import CONTENTS, Raw

_RAW_INPUTS = v2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER

_MIN_BUFFER = 32 << 10
"""Size in bytes from which a tensor is a buffer of its own. The copy of a smaller one costs less
than another buffer."""

_MAX_CACHED_NAME = 128
"""Length of a tensor's name up to which a message is cached: clients may choose the name."""

MessageType = Literal["v2", "tensor"]

MESSAGE_TYPES: Mapping[str, MessageType] = {
    "inference.ModelInferRequest": "v2",
    "ModelInferRequest": "v2",
    "sluice.v1.TensorRequest": "tensor",
    "TensorRequest": "tensor",
}
"""Values of the media type's parameter `messageType` (or `proto`)."""


def read_request(
    body: bytes,
    signature: Signature,
    limits: ConversionLimits,
    message_type: MessageType | None = None,
) -> InferenceRequest:
    """Read a ModelInferRequest or a TensorRequest.

    Without a `message_type`, the fields of the body determine the message. Raises ConversionError
    (400, 413, 415, 422).
    """
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "must not be empty")
    _check_field_count(body, limits)
    if message_type != "tensor":
        request = v2.ModelInferRequest()
        if parse(request, body) and request.inputs:
            return _from_v2(request, limits)
        if message_type == "v2":
            raise ConversionError(
                Reason.NOT_PROTOBUF, "body", "must be a ModelInferRequest with inputs"
            )
    tensor = tensor_pb2.TensorRequest()
    if not parse(tensor, body) or not tensor.data:
        raise ConversionError(
            Reason.NOT_PROTOBUF,
            "body",
            "must be a ModelInferRequest with inputs, or a TensorRequest with data",
        )
    return _from_tensor(tensor, signature, limits)


def write_request(request: InferenceRequest, signature: Signature) -> Content:
    """A ModelInferRequest with raw contents, and with the model and version of the signature.

    Raises ConversionError (422) for a parameter that protobuf cannot represent.
    """
    if request.id or request.parameters or request.outputs or len(request.inputs) > 1:
        return _with_tensors(_message(request, signature), request.inputs)
    (tensor,) = request.inputs
    if tensor.parameters or len(tensor.name) > _MAX_CACHED_NAME:
        return _with_tensors(_message(request, signature), request.inputs)
    message = _message_of_tensor(
        signature.model, signature.version, tensor.name, tensor.datatype, tensor.shape
    )
    return _with_tensors(message, request.inputs)


@lru_cache(maxsize=256)
def _message_of_tensor(
    model: str, version: str, name: str, datatype: str, shape: tuple[int, ...]
) -> bytes:
    """The message of a request with one tensor, without its data. Most pictures have the same."""
    message = v2.ModelInferRequest(model_name=model, model_version=version)
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message.SerializeToString()


def _message(request: InferenceRequest, signature: Signature) -> bytes:
    """The message of a request, without the data of its tensors."""
    message = v2.ModelInferRequest(
        model_name=signature.model,
        model_version=signature.version,
        id=request.id,
        parameters=_written_parameters(request.parameters, ""),
    )
    for tensor in request.inputs:
        message.inputs.add(
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tensor.shape,
            parameters=_written_parameters(tensor.parameters, f"{tensor.field}."),
        )
    for i, output in enumerate(request.outputs):
        message.outputs.add(
            name=output.name, parameters=_written_parameters(output.parameters, f"outputs[{i}].")
        )
    return message.SerializeToString()


def _with_tensors(message: bytes, tensors: Sequence[Tensor]) -> Content:
    """The message with the tensors as its raw contents. Large tensors are not copied."""
    buffers: list[Buffer] = []
    pieces: list[Raw] = [message]
    for tensor in tensors:
        pieces.append(field_head(_RAW_INPUTS, len(tensor.data)))
        if len(tensor.data) < _MIN_BUFFER:
            pieces.append(tensor.data)
        else:
            buffers += (b"".join(pieces), tensor.data)
            pieces = []
    last = b"".join(pieces)
    if not buffers:
        return last
    return Segments(*buffers, last) if last else Segments(*buffers)


def write_response(response: InferenceResponse) -> bytes:
    """A ModelInferResponse with raw contents."""
    message = v2.ModelInferResponse(
        model_name=response.model,
        model_version=response.version,
        id=response.id,
        parameters=_written_parameters(response.parameters, ""),
        raw_output_contents=[bytes(tensor.data) for tensor in response.outputs],
    )
    for tensor in response.outputs:
        message.outputs.add(
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tensor.shape,
            parameters=_written_parameters(tensor.parameters, f"{tensor.field}."),
        )
    return message.SerializeToString()


def _check_field_count(body: bytes, limits: ConversionLimits) -> None:
    try:
        too_many = has_more_fields(body, REQUEST, limits.max_fields)
    except WireError:
        raise ConversionError(Reason.NOT_PROTOBUF, "body", "must be a protobuf message") from None
    if too_many:
        raise ConversionError(
            Reason.TOO_MANY_FIELDS,
            "body",
            f"must have at most {limits.max_fields} fields;"
            f" {NUMBERS_OF_A_FIELD} integers in typed contents count as one",
        )


def parse_response(message: Message, body: bytes, fields: Nested, limits: ConversionLimits) -> None:
    """Parse the body of a response into the message. Raises ConversionError (502)."""
    try:
        too_many = has_more_fields(body, fields, limits.max_fields)
        valid = too_many or parse(message, body)
    except WireError:
        valid = too_many = False
    if too_many:
        raise response_too_large(f"must have at most {limits.max_fields} fields")
    if not valid:
        raise bad_model_response(f"must be a {message.DESCRIPTOR.name}")


def parse(message: Message, body: bytes) -> bool:
    """Parse the body into the message. Returns whether it is valid."""
    try:
        message.ParseFromString(body)
    except DecodeError:
        return False
    return True


def _from_v2(message: v2.ModelInferRequest, limits: ConversionLimits) -> InferenceRequest:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise ConversionError(
            Reason.WRONG_ENTRY_COUNT,
            "raw_input_contents",
            f"must have {len(message.inputs)} entries, one for each input, not {len(raw)}",
        )
    check_entry_count(len(message.inputs) + len(message.outputs), "body", limits)
    tensors = []
    for i, entry in enumerate(message.inputs):
        field = f"inputs[{i}]"
        check_datatype(entry.datatype, field)
        if raw and entry.HasField("contents"):
            raise ConversionError(
                Reason.DATA_TWICE,
                f"{field}.contents",
                "must not be set together with raw_input_contents",
            )
        data = raw[i] if raw else _typed(entry.contents, entry.datatype, field)
        parameters = read_parameters(entry.parameters)
        check_dimensions(len(entry.shape), limits.max_dimensions, f"{field}.shape")
        tensors.append(
            Tensor(entry.name, entry.datatype, tuple(entry.shape), data, parameters, field)
        )
    outputs = [RequestedOutput(o.name, read_parameters(o.parameters)) for o in message.outputs]
    return InferenceRequest(tensors, outputs, read_parameters(message.parameters), message.id)


def _from_tensor(
    message: tensor_pb2.TensorRequest, signature: Signature, limits: ConversionLimits
) -> InferenceRequest:
    check_dimensions(len(message.shape), limits.max_dimensions, "shape")
    name, datatype, shape = message.name, message.datatype, tuple(message.shape)
    declared = signature.input(name) if name else signature.only_input("name")
    if declared is not None:
        name, datatype = declared.name, datatype or declared.datatype
    if not datatype:
        raise ConversionError(
            Reason.DATATYPE_MISSING, "datatype", "must be set: the model does not declare it"
        )
    check_datatype(datatype, "")
    if not shape:
        if declared is None:
            raise ConversionError(
                Reason.SHAPE_MISSING, "shape", "must be set: the model does not declare it"
            )
        count = raw_element_count(message.data, datatype, "data")
        shape = flat_data_shape(declared, count, "data")
    return InferenceRequest([Tensor(name, datatype, shape, message.data)], id=message.id)


def _typed(contents: v2.InferTensorContents, datatype: str, field: str) -> bytes:
    """Raw data of typed contents. Raises ConversionError (415, 422)."""
    member = CONTENTS.get(datatype)
    if member is None:
        raise ConversionError(
            Reason.NO_TYPED_CONTENTS,
            f"{field}.contents",
            f"{datatype} must be sent in raw contents",
        )
    if datatype == "BYTES":
        return pack_texts(contents.bytes_contents)
    # A slice of the values is a list, so pack() creates the objects of one chunk at a time.
    values: Sequence[object] = getattr(contents, member)
    return pack(values, datatype, f"{field}.contents.{member}")


def read_parameters(parameters: Mapping[str, v2.InferParameter]) -> Parameters:
    """The parameters of a request, a response or a tensor, without those that have no value."""
    found: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def _written_parameters(parameters: Parameters, prefix: str) -> dict[str, v2.InferParameter]:
    return {
        name: _parameter(value, f"{prefix}parameters.{member_field(name)}")
        for name, value in parameters.items()
    }


def _parameter(value: Parameter, field: str) -> v2.InferParameter:
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
    raise ConversionError(Reason.WRONG_PARAMETER, field, "must be an integer of at most 64 bits")
