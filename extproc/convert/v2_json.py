"""Reads and writes requests of the V2 REST protocol in JSON."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import orjson

from extproc.convert.elements import flatten, json_values, pack
from extproc.convert.errors import ConversionError, shape_text
from extproc.convert.inference import InferenceRequest, RequestedOutput
from extproc.convert.json_array import json_array
from extproc.convert.json_document import (
    as_array,
    as_name,
    as_object,
    as_string,
    member_field,
    refuse_unknown_members,
)
from extproc.convert.limits import ConversionLimits
from extproc.convert.signature import check_bytes_count, check_datatype, check_entry_count
from extproc.convert.tensor import Parameters, Tensor, check_dimensions
from sluice.contract.reasons import Reason
from sluice.tensors.shapes import element_count

_REQUEST_MEMBERS = frozenset(("id", "parameters", "inputs", "outputs"))
_TENSOR_MEMBERS = frozenset(("name", "shape", "datatype", "data", "parameters"))
_OUTPUT_MEMBERS = frozenset(("name", "parameters"))
_PARAMETER_TYPES = frozenset((bool, int, float, str))

_MAX_DIMENSION = (1 << 63) - 1
"""Dimensions are int64 in ModelInferRequest."""


def read_request(document: Mapping[str, object], limits: ConversionLimits) -> InferenceRequest:
    """A V2 request. Raises ConversionError (400, 422)."""
    refuse_unknown_members(document, _REQUEST_MEMBERS, "")
    inputs = read_inputs(document, limits)
    request_id = as_string(document.get("id", ""), "id")
    return InferenceRequest(
        inputs=[read_tensor(entry, f"inputs[{i}]", limits) for i, entry in enumerate(inputs)],
        outputs=read_outputs(document, limits),
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
    return orjson.dumps(document)


def read_tensor(entry: object, field: str, limits: ConversionLimits) -> Tensor:
    """A V2 tensor with its data in JSON. Raises ConversionError (400, 422)."""
    members = as_object(entry, field)
    refuse_unknown_members(members, _TENSOR_MEMBERS, f"{field}.")
    name, datatype, shape = read_tensor_head(members, field, limits)
    if "data" not in members:
        raise ConversionError(Reason.NO_DATA, f"{field}.data", "is missing")
    flat, nesting = flatten(members["data"], f"{field}.data", limits)
    _check_nesting(nesting, shape, len(flat), f"{field}.data")
    if datatype == "BYTES":
        check_bytes_count(len(flat), f"{field}.data", limits)
    raw = pack(flat, datatype, f"{field}.data")
    return Tensor(name, datatype, shape, raw, read_parameters(members, f"{field}."), field)


def read_tensor_head(
    members: Mapping[str, object], field: str, limits: ConversionLimits
) -> tuple[str, str, tuple[int, ...]]:
    """Name, datatype and shape of a V2 tensor. Raises ConversionError (400, 422)."""
    name = as_name(members.get("name"), f"{field}.name")
    datatype = as_string(members.get("datatype"), f"{field}.datatype")
    check_datatype(datatype, field)
    shape = as_array(members.get("shape"), f"{field}.shape")
    check_dimensions(len(shape), limits.max_dimensions, f"{field}.shape")
    sizes = tuple([size for size in shape if type(size) is int and size <= _MAX_DIMENSION])
    if len(sizes) < len(shape):
        raise ConversionError(Reason.WRONG_TYPE, f"{field}.shape", "must be an array of integers")
    return name, datatype, sizes


def read_inputs(document: Mapping[str, object], limits: ConversionLimits) -> list[object]:
    """The `inputs` of a V2 request. Raises ConversionError (400, 413)."""
    inputs = as_array(document.get("inputs"), "inputs")
    check_entry_count(len(inputs), "inputs", limits)
    return inputs


def read_outputs(document: Mapping[str, object], limits: ConversionLimits) -> list[RequestedOutput]:
    """The `outputs` of a V2 request. Raises ConversionError (400, 413, 422)."""
    outputs = []
    entries = as_array(document.get("outputs", []), "outputs")
    check_entry_count(len(entries), "outputs", limits)
    for i, entry in enumerate(entries):
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
    parameters = as_object(found, f"{prefix}parameters")
    if not _PARAMETER_TYPES.issuperset(map(type, parameters.values())):
        raise _wrong_parameter(parameters, prefix)
    return cast("Parameters", parameters)


def _wrong_parameter(parameters: Mapping[str, object], prefix: str) -> ConversionError:
    name = next(name for name in parameters if type(parameters[name]) not in _PARAMETER_TYPES)
    return ConversionError(
        Reason.WRONG_PARAMETER,
        f"{prefix}parameters.{member_field(name)}",
        "must be a boolean, a number or a string",
    )


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
            f"the nesting {shape_text(nesting)} is not the shape {shape_text(shape)}",
        )
    if len(nesting) == 1 and count != element_count(shape) and not any(size < 0 for size in shape):
        raise ConversionError(
            Reason.WRONG_COUNT,
            field,
            f"{count} elements do not fill the shape {shape_text(shape)}",
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
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ConversionError(
            Reason.NOT_FINITE,
            field,
            "must not contain NaN or infinity: the model server accepts only JSON",
        )
    entry["data"] = orjson.Fragment(json_array(values))
    return entry
