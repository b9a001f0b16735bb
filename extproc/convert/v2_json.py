"""Reads and writes requests, and reads responses, of the V2 REST protocol in JSON."""

from collections.abc import Mapping

import numpy as np
import orjson

from extproc.convert.elements import flatten, json_values, pack
from extproc.convert.errors import ConversionError, bad_model_response
from extproc.convert.inference import InferenceRequest, InferenceResponse, RequestedOutput
from extproc.convert.json_document import (
    as_array,
    as_name,
    as_object,
    as_string,
    parse_object,
    refuse_unknown_members,
)
from extproc.convert.limits import ConversionLimits
from extproc.convert.signature import check_datatype
from extproc.convert.tensor import Parameter, Parameters, Tensor, element_count
from sluice.contract.reasons import Reason

_REQUEST_MEMBERS = frozenset(("id", "parameters", "inputs", "outputs"))
_TENSOR_MEMBERS = frozenset(("name", "shape", "datatype", "data", "parameters"))
_OUTPUT_MEMBERS = frozenset(("name", "parameters"))

_MAX_DIMENSION = (1 << 63) - 1
"""Dimensions are int64 in ModelInferRequest."""


def read_request(document: Mapping[str, object], limits: ConversionLimits) -> InferenceRequest:
    """A V2 request. Raises ConversionError (400, 422)."""
    refuse_unknown_members(document, _REQUEST_MEMBERS, "")
    request_id = as_string(document.get("id", ""), "id")
    return InferenceRequest(
        inputs=[
            read_tensor(entry, f"inputs[{i}]", limits)
            for i, entry in enumerate(as_array(document.get("inputs"), "inputs"))
        ],
        outputs=read_outputs(document),
        parameters=read_parameters(document, ""),
        id=request_id,
        verbatim=True,
    )


def write_request(request: InferenceRequest) -> bytes:
    """A V2 request. Raises ConversionError (422) for elements that JSON cannot represent."""
    document: dict[str, object] = {}
    if request.id:
        document["id"] = request.id
    if request.parameters:
        document["parameters"] = request.parameters
    document["inputs"] = [_written_input(tensor) for tensor in request.inputs]
    if request.outputs:
        document["outputs"] = [
            {"name": output.name, "parameters": output.parameters}
            if output.parameters
            else {"name": output.name}
            for output in request.outputs
        ]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def read_response(body: bytes, limits: ConversionLimits) -> InferenceResponse:
    """A V2 response. Raises ConversionError (502)."""
    try:
        document = parse_object(body, limits)
        outputs = as_array(document.get("outputs"), "outputs")
        return InferenceResponse(
            str(document.get("model_name", "")),
            str(document.get("model_version") or ""),
            [read_tensor(entry, f"outputs[{i}]", limits) for i, entry in enumerate(outputs)],
            read_parameters(document, ""),
            str(document.get("id") or ""),
        )
    except ConversionError as error:
        raise bad_model_response(f"{error.field}: {error.detail}") from None


def read_tensor(entry: object, field: str, limits: ConversionLimits) -> Tensor:
    """A V2 tensor with its data in JSON. Raises ConversionError (400, 422)."""
    members = as_object(entry, field)
    refuse_unknown_members(members, _TENSOR_MEMBERS, f"{field}.")
    name, datatype, shape = read_tensor_head(members, field)
    if "data" not in members:
        raise ConversionError(Reason.NO_DATA, f"{field}.data", "is missing")
    flat, nesting = flatten(members["data"], f"{field}.data", limits)
    _check_nesting(nesting, shape, len(flat), f"{field}.data")
    raw = pack(flat, datatype, f"{field}.data")
    return Tensor(name, datatype, shape, raw, read_parameters(members, f"{field}."), field)


def read_tensor_head(members: Mapping[str, object], field: str) -> tuple[str, str, tuple[int, ...]]:
    """Name, datatype and shape of a V2 tensor. Raises ConversionError (400, 422)."""
    name = as_name(members.get("name"), f"{field}.name")
    datatype = as_string(members.get("datatype"), f"{field}.datatype")
    check_datatype(datatype, field)
    shape = members.get("shape")
    if not isinstance(shape, list) or not all(
        type(size) is int and size <= _MAX_DIMENSION for size in shape
    ):
        raise ConversionError(Reason.WRONG_TYPE, f"{field}.shape", "must be an array of integers")
    return name, datatype, tuple(shape)


def read_outputs(document: Mapping[str, object]) -> list[RequestedOutput]:
    """The `outputs` of a V2 request. Raises ConversionError (400, 422)."""
    outputs = []
    for i, entry in enumerate(as_array(document.get("outputs", []), "outputs")):
        members = as_object(entry, f"outputs[{i}]")
        refuse_unknown_members(members, _OUTPUT_MEMBERS, f"outputs[{i}].")
        name = as_name(members.get("name"), f"outputs[{i}].name")
        outputs.append(RequestedOutput(name, read_parameters(members, f"outputs[{i}].")))
    return outputs


def read_parameters(members: Mapping[str, object], prefix: str) -> Parameters:
    """The `parameters` of a V2 object. Raises ConversionError (400, 422)."""
    found = members.get("parameters")
    if found is None:
        return {}
    return {
        name: _parameter(value, f"{prefix}parameters.{name}")
        for name, value in as_object(found, f"{prefix}parameters").items()
    }


def _parameter(value: object, field: str) -> Parameter:
    if isinstance(value, bool | int | float | str):
        return value
    raise ConversionError(Reason.WRONG_PARAMETER, field, "must be a boolean, a number or a string")


def _check_nesting(
    nesting: tuple[int, ...], shape: tuple[int, ...], count: int, field: str
) -> None:
    """Raises ConversionError unless the data are flat, or nested according to the shape."""
    if len(nesting) == 0:
        raise ConversionError(Reason.WRONG_TYPE, field, "must be an array")
    if len(nesting) > 1 and nesting != shape:
        raise ConversionError(
            Reason.WRONG_SHAPE,
            field,
            f"the nesting {list(nesting)} is not the shape {list(shape)}",
        )
    if len(nesting) == 1 and min(shape, default=1) >= 0 and count != element_count(shape):
        raise ConversionError(
            Reason.WRONG_COUNT,
            field,
            f"shape {list(shape)} needs {element_count(shape)} elements, not {count}",
        )


def _written_input(tensor: Tensor) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    if tensor.parameters:
        entry["parameters"] = tensor.parameters
    field = f"{tensor.field}.data"
    try:
        values = json_values(tensor.data, tensor.datatype, field)
    except UnicodeDecodeError:
        raise ConversionError(
            Reason.NOT_TEXT, field, "must be UTF-8: the model server accepts only JSON"
        ) from None
    if (
        isinstance(values, np.ndarray)
        and values.dtype.kind == "f"
        and not np.isfinite(values).all()
    ):
        raise ConversionError(
            Reason.NOT_FINITE,
            field,
            "must not contain NaN or infinity: the model server accepts only JSON",
        )
    entry["data"] = values
    return entry
