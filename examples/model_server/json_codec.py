"""V2 JSON inference requests and responses: bytes to tensors and back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from .tensors import Array, InvalidInputError, Tensor, dtype_of, reshape


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """An inference request. An empty `outputs` requests every output."""

    id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]


def parse_request(body: bytes) -> InferenceRequest:
    """Reads a V2 JSON request; raises InvalidInputError, which names the invalid field."""
    document = _load(body)
    inputs = _array(document, "inputs")
    if not inputs:
        raise InvalidInputError('"inputs" must have at least one tensor')
    request_id = document.get("id", "")
    if not isinstance(request_id, str):
        raise InvalidInputError('"id" must be a string')
    return InferenceRequest(
        id=request_id,
        inputs=tuple(_tensor(entry) for entry in inputs),
        outputs=tuple(_name(entry, "outputs") for entry in _array(document, "outputs")),
    )


def write_response(model: str, version: str, request_id: str, outputs: Sequence[Tensor]) -> bytes:
    """A V2 JSON response with flat data. BYTES elements become text."""
    document: dict[str, object] = {"model_name": model, "model_version": version}
    if request_id:
        document["id"] = request_id
    document["outputs"] = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.data.shape),
            "data": _json_elements(tensor),
        }
        for tensor in outputs
    ]
    return json.dumps(document, ensure_ascii=False).encode()


def _load(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"invalid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInputError("the body must be a JSON object")
    return document


def _reject_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a valid JSON number")


def _array(document: dict[str, object], field: str) -> list[object]:
    value = document.get(field, [])
    if not isinstance(value, list):
        raise InvalidInputError(f'"{field}" must be an array')
    return value


def _name(entry: object, field: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InvalidInputError(f'every entry of "{field}" must be an object with a "name"')
    return str(entry["name"])


def _tensor(entry: object) -> Tensor:
    name = _name(entry, "inputs")
    assert isinstance(entry, dict)
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str):
        raise InvalidInputError(f'input {name!r}: "datatype" must be a string')
    dtype = dtype_of(name, datatype)
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise InvalidInputError(f'input {name!r}: "shape" must be an array of integers')
    data = entry.get("data")
    if not isinstance(data, list):
        raise InvalidInputError(f'input {name!r}: "data" must be an array')
    return Tensor(name, datatype, reshape(name, _elements(name, datatype, dtype, data), shape))


def _elements(name: str, datatype: str, dtype: np.dtype[np.generic], data: list[object]) -> Array:
    flat = _flatten(data)
    allowed = _JSON_TYPES[dtype.kind]
    for position, value in enumerate(flat):
        # Not isinstance: a Python bool is an int, but a JSON true is not a V2 integer.
        if type(value) not in allowed:
            raise InvalidInputError(
                f"input {name!r}: element {position} is not a {datatype}: {json.dumps(value):.40}"
            )
    if datatype == "BYTES":
        # JSON allows a lone surrogate. UTF-8 does not.
        return np.array([str(value).encode(errors="replace") for value in flat], dtype=object)
    try:
        return np.array(flat, dtype=dtype)
    except OverflowError:
        raise InvalidInputError(f"input {name!r}: number out of range for {datatype}") from None


# By the kind of the numpy type.
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "b": (bool,),
    "u": (int,),
    "i": (int,),
    "f": (int, float),
    "O": (str,),
}


def _flatten(data: list[object]) -> list[object]:
    """The elements of nested arrays, in row-major order."""
    # Not recursive, so that deep nesting cannot exhaust the stack.
    while any(isinstance(item, list) for item in data):
        level: list[object] = []
        for item in data:
            if not isinstance(item, list):
                raise InvalidInputError('"data" mixes arrays and elements at the same depth')
            level.extend(item)
        data = level
    return data


def _json_elements(tensor: Tensor) -> list[object]:
    if tensor.datatype == "BYTES":
        return [item.decode(errors="replace") for item in tensor.data.ravel().tolist()]
    return list(tensor.data.ravel().tolist())
