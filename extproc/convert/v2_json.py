"""Writes requests for model servers that speak V2 REST."""

import numpy as np
import orjson

from extproc.convert.elements import json_values
from extproc.convert.errors import ConversionError
from extproc.convert.tensor import InferenceRequest, Tensor
from sluice.contract.reasons import Reason


def write_request(inference: InferenceRequest) -> bytes:
    """A V2 JSON request. Raises ConversionError (422) for what JSON cannot say."""
    document: dict[str, object] = {}
    if inference.id:
        document["id"] = inference.id
    if inference.parameters:
        document["parameters"] = inference.parameters
    document["inputs"] = [_input(tensor) for tensor in inference.inputs]
    if inference.outputs:
        document["outputs"] = [
            {"name": output.name, "parameters": output.parameters}
            if output.parameters
            else {"name": output.name}
            for output in inference.outputs
        ]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _input(tensor: Tensor) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    if tensor.parameters:
        entry["parameters"] = tensor.parameters
    where = f"{tensor.field}.data"
    try:
        values = json_values(tensor.data, tensor.datatype, where)
    except UnicodeDecodeError:
        raise ConversionError(
            Reason.NOT_TEXT, where, "is not UTF-8, and the model server takes JSON only"
        ) from None
    if (
        isinstance(values, np.ndarray)
        and values.dtype.kind == "f"
        and not np.isfinite(values).all()
    ):
        raise ConversionError(
            Reason.NOT_FINITE, where, "holds NaN or infinity, and the model server takes JSON only"
        )
    entry["data"] = values
    return entry
