"""Writes the response of a gRPC model server as the client requested."""

import base64
from collections.abc import Mapping

import numpy as np
import orjson

from extproc.convert.binary import BINARY_DATA_SIZE
from extproc.convert.elements import json_values
from extproc.convert.inference import InferenceResponse, ResponseOptions
from extproc.convert.json_array import json_array
from extproc.convert.predictions import predictions
from extproc.convert.signature import Signature
from extproc.convert.tensor import Tensor, unpack_bytes
from sluice.config.tensors import TensorOutput
from sluice.tensors.datatypes import Raw
from sluice.tensors.elements import Array, array
from sluice.tensors.labels import Classes, TopClasses

_BASE64 = {"content_type": "base64"}


def write_json(
    response: InferenceResponse, signature: Signature, options: ResponseOptions
) -> bytes:
    """V2 JSON with flat data, and `top_k` for outputs with labels; or V1 predictions.

    NaN and infinity become null. If an element of a BYTES output is not UTF-8, the elements become
    base64, and the output gets the parameter `content_type` with the value `base64`.
    """
    if options.form == "v1":
        return predictions(response)
    labeled, top = _labeled_outputs(signature), TopClasses()
    return _document(response, [_output(tensor, labeled, top) for tensor in response.outputs])


def write_binary(
    response: InferenceResponse, signature: Signature, options: ResponseOptions
) -> tuple[bytes, int]:
    """A body of the binary tensor data extension, and the length of its JSON."""
    labeled, top = _labeled_outputs(signature), TopClasses()
    outputs: list[dict[str, object]] = []
    data: list[Raw] = []
    for tensor in response.outputs:
        if not _is_binary(tensor.name, options):
            outputs.append(_output(tensor, labeled, top))
            continue
        parameters = {**tensor.parameters, BINARY_DATA_SIZE: len(tensor.data)}
        outputs.append({**_head(tensor), "parameters": parameters})
        data.append(tensor.data)
    head = _document(response, outputs)
    return b"".join((head, *data)), len(head)


def _is_binary(name: str, options: ResponseOptions) -> bool:
    if name in options.text:
        return False
    return options.encoding == "binary" or name in options.binary


def _document(response: InferenceResponse, outputs: list[dict[str, object]]) -> bytes:
    document: dict[str, object] = {"model_name": response.model}
    if response.version:
        document["model_version"] = response.version
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = response.parameters
    document["outputs"] = outputs
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _head(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _output(
    tensor: Tensor, labeled: Mapping[str, TensorOutput], top: TopClasses
) -> dict[str, object]:
    entry = _head(tensor)
    if tensor.parameters:
        entry["parameters"] = tensor.parameters
    try:
        values = json_values(tensor.data, tensor.datatype, tensor.field)
        entry["data"] = orjson.Fragment(json_array(values))
    except UnicodeDecodeError:
        entry["parameters"] = {**tensor.parameters, **_BASE64}
        entry["data"] = orjson.Fragment(json_array(_base64(tensor)))
    declared = labeled.get(tensor.name)
    if declared is not None and (classes := _classes(tensor, declared, top)):
        entry["top_k"] = classes
    return entry


def _classes(tensor: Tensor, declared: TensorOutput, top: TopClasses) -> Classes:
    if tensor.datatype == "BYTES":
        return []
    values = array(tensor.data, tensor.datatype)
    return top.of_array(values, tensor.datatype, tensor.shape, declared)


def _base64(tensor: Tensor) -> Array:
    items = unpack_bytes(tensor.data, tensor.field)
    return np.array([base64.b64encode(item).decode() for item in items], dtype=object)


def _labeled_outputs(signature: Signature) -> dict[str, TensorOutput]:
    return {output.name: output for output in signature.outputs if output.labels}
