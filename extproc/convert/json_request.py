"""Reads requests in JSON: V2, and the plain forms that people write by hand.

| form | what it is |
|---|---|
| `{"inputs": [{"name", "shape", "datatype", "data"}, ...]}` | V2 REST |
| `{"instances": [row, ...]}` | V1 (TensorFlow Serving); a row is a value or an object of inputs |
| `{"inputs": {"name": value, ...}}` | the same by columns |
| `{"name": value, ...}` | the model's inputs by name |
| `{"text": value}` | the model's only BYTES input, whatever its name |

All but the first need a model that declares its inputs. An encoded picture may stand as
`{"b64": "..."}` where a picture is declared.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import orjson

from extproc.convert.elements import base64_bytes, flatten, pack
from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.convert.signature import Signature, check_datatype, place
from extproc.convert.tensor import (
    InferenceRequest,
    Parameter,
    Parameters,
    RequestedOutput,
    ResponseOptions,
    Tensor,
    element_count,
)
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason

_V2_MEMBERS = frozenset(("id", "parameters", "inputs", "outputs"))
_TENSOR_MEMBERS = frozenset(("name", "shape", "datatype", "data", "parameters"))

_Column = tuple[str, object, str]
"""Name of an input as the client wrote it, what it wrote there, and where."""

# Below this even the densest document stays small, and is not worth an estimate.
_SURELY_SMALL = 1 << 20


class ImageBatchReader(Protocol):
    """Turns encoded pictures into the tensor of a declared image input."""

    def __call__(
        self, declared: TensorInput, pictures: Sequence[bytes], places: Sequence[str]
    ) -> Tensor: ...


def parse(body: bytes, limits: ConversionLimits) -> dict[str, object]:
    """The object that a JSON body holds. Raises ConversionError (400, 413)."""
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "is empty")
    if len(body) > _SURELY_SMALL and _parsed_size(body) > limits.max_json_memory:
        raise ConversionError(
            Reason.JSON_TOO_LARGE,
            "body",
            f"would take over {limits.max_json_memory} bytes of memory",
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(body, error) from None
    if not isinstance(document, dict):
        raise ConversionError(Reason.NOT_AN_OBJECT, "body", "must be a JSON object")
    return document


def read(
    document: Mapping[str, object],
    signature: Signature,
    limits: ConversionLimits,
    pictures: ImageBatchReader,
) -> InferenceRequest:
    """The tensors of a request in any of the forms above. Raises ConversionError (400, 422)."""
    if isinstance(document.get("inputs"), list):
        return _read_v2(document, limits)
    if not signature.inputs:
        raise ConversionError(
            Reason.NO_DECLARED_INPUTS,
            "inputs",
            "must be an array of V2 tensors: this model declares no inputs for shorter forms",
        )
    if "instances" in document:
        _refuse_unknown(document, frozenset(("instances", "signature_name")), "")
        rows = _columns(document["instances"], signature)
        return InferenceRequest(
            _by_name(rows, signature, limits, pictures), response_options=ResponseOptions(form="v1")
        )
    if isinstance(document.get("inputs"), dict) and signature.input("inputs") is None:
        _refuse_unknown(document, frozenset(("inputs", "signature_name")), "")
        named = _object(document["inputs"], "inputs")
        columns = ((name, value, f"inputs.{name}") for name, value in named.items())
    else:
        columns = ((name, value, name) for name, value in document.items())
    return InferenceRequest(_by_name(columns, signature, limits, pictures))


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> ConversionError:
    detail = f"is not JSON: {error.msg} at byte {error.pos}"
    if body[error.pos : error.pos + 9].lstrip(b"-").startswith((b"NaN", b"Inf")):
        detail = f"NaN and infinity have no JSON form (byte {error.pos}): send them as binary data"
    return ConversionError(Reason.NOT_JSON, "body", detail)


def _parsed_size(body: bytes) -> int:
    # Sizes of CPython's objects; every array, object, string and number has one of these signs.
    return (
        88 * body.count(b"[")
        + 232 * body.count(b"{")
        + 28 * body.count(b'"')
        + 40 * body.count(b",")
        + len(body)
    )


def _read_v2(document: Mapping[str, object], limits: ConversionLimits) -> InferenceRequest:
    _refuse_unknown(document, _V2_MEMBERS, "")
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise ConversionError(Reason.WRONG_TYPE, "id", "must be a string")
    return InferenceRequest(
        inputs=[
            read_tensor(entry, f"inputs[{i}]", limits)
            for i, entry in enumerate(_list(document["inputs"], "inputs"))
        ],
        outputs=read_outputs(document),
        parameters=read_parameters(document, ""),
        id=identity,
        verbatim=True,
    )


def read_tensor(entry: object, where: str, limits: ConversionLimits) -> Tensor:
    """A V2 tensor with its data in JSON. Raises ConversionError (400, 422)."""
    members = _object(entry, where)
    _refuse_unknown(members, _TENSOR_MEMBERS, f"{where}.")
    name, datatype, shape = read_head(members, where)
    if "data" not in members:
        raise ConversionError(Reason.NO_DATA, f"{where}.data", "is missing")
    flat, nested = flatten(members["data"], f"{where}.data", limits)
    if len(nested) == 0:
        raise ConversionError(Reason.WRONG_TYPE, f"{where}.data", "must be an array")
    if len(nested) > 1 and nested != shape:
        raise ConversionError(
            Reason.WRONG_SHAPE,
            f"{where}.data",
            f"is nested as {list(nested)}, shape is {list(shape)}",
        )
    if len(nested) == 1 and min(shape, default=1) >= 0 and len(flat) != element_count(shape):
        raise ConversionError(
            Reason.WRONG_COUNT,
            f"{where}.data",
            f"shape {list(shape)} takes {element_count(shape)} elements, {len(flat)} were sent",
        )
    raw = pack(flat, datatype, f"{where}.data")
    return Tensor(name, datatype, shape, raw, read_parameters(members, f"{where}."), where)


def read_head(members: Mapping[str, object], where: str) -> tuple[str, str, tuple[int, ...]]:
    """Name, datatype and shape of a V2 tensor. Raises ConversionError (400, 422)."""
    name, datatype, shape = members.get("name"), members.get("datatype"), members.get("shape")
    if not isinstance(name, str) or not name:
        raise ConversionError(Reason.WRONG_TYPE, f"{where}.name", "must be a string, not empty")
    if not isinstance(datatype, str):
        raise ConversionError(Reason.WRONG_TYPE, f"{where}.datatype", "must be a string")
    check_datatype(datatype, where)
    if not isinstance(shape, list):
        raise ConversionError(Reason.WRONG_TYPE, f"{where}.shape", "must be an array of integers")
    sizes = tuple(size for size in shape if type(size) is int and size < 1 << 63)
    if len(sizes) < len(shape):
        raise ConversionError(Reason.WRONG_TYPE, f"{where}.shape", "must be an array of integers")
    return name, datatype, sizes


def read_outputs(document: Mapping[str, object]) -> list[RequestedOutput]:
    """The `outputs` of a V2 request. Raises ConversionError (400)."""
    outputs = []
    for i, entry in enumerate(_list(document.get("outputs", []), "outputs")):
        members = _object(entry, f"outputs[{i}]")
        _refuse_unknown(members, frozenset(("name", "parameters")), f"outputs[{i}].")
        name = members.get("name")
        if not isinstance(name, str) or not name:
            raise ConversionError(
                Reason.WRONG_TYPE, f"outputs[{i}].name", "must be a string, not empty"
            )
        outputs.append(RequestedOutput(name, read_parameters(members, f"outputs[{i}].")))
    return outputs


def read_parameters(members: Mapping[str, object], prefix: str) -> Parameters:
    """The `parameters` of a V2 object: booleans, numbers and strings. Raises ConversionError."""
    found = members.get("parameters")
    if found is None:
        return {}
    return {
        name: _parameter(value, f"{prefix}parameters.{name}")
        for name, value in _object(found, f"{prefix}parameters").items()
    }


def _parameter(value: object, where: str) -> Parameter:
    if isinstance(value, bool | int | float | str):
        return value
    raise ConversionError(Reason.WRONG_PARAMETER, where, "must be a boolean, a number or a string")


def _columns(instances: object, signature: Signature) -> Iterable[_Column]:
    rows = _list(instances, "instances")
    if not rows:
        raise ConversionError(Reason.NO_INPUTS, "instances", "must hold at least one row")
    if not isinstance(rows[0], dict) or rows[0].keys() == {"b64"}:
        return [(signature.only_input("instances").name, rows, "instances")]
    names = rows[0].keys()
    columns: dict[str, list[object]] = {name: [] for name in names}
    for i, row in enumerate(rows):
        members = _object(row, f"instances[{i}]")
        if members.keys() != names:
            raise ConversionError(
                Reason.UNEVEN_ROWS, f"instances[{i}]", "has other members than the first row"
            )
        for name, value in members.items():
            columns[name].append(value)
    return [(name, column, f"instances[].{name}") for name, column in columns.items()]


def _input_name(name: str, signature: Signature) -> str:
    if name == "text" and signature.input("text") is None:
        texts = [declared.name for declared in signature.inputs if declared.datatype == "BYTES"]
        if len(texts) == 1:
            return texts[0]
    return name


def _by_name(
    columns: Iterable[_Column],
    signature: Signature,
    limits: ConversionLimits,
    pictures: ImageBatchReader,
) -> list[Tensor]:
    tensors = []
    for name, value, where in columns:
        declared = signature.input(_input_name(name, signature))
        if declared is None:
            names = ", ".join(known.name for known in signature.inputs)
            raise ConversionError(
                Reason.UNKNOWN_INPUT, _written(where), f"is none of the model's inputs: {names}"
            )
        tensors.append(_shaped(declared, value, where, limits, pictures))
    return tensors


def _shaped(
    declared: TensorInput,
    value: object,
    where: str,
    limits: ConversionLimits,
    pictures: ImageBatchReader,
) -> Tensor:
    if declared.image is not None and (encoded := _encoded(value, where)):
        return pictures(declared, *zip(*encoded, strict=True))
    flat, nested = flatten(value, where, limits)
    shape = place(declared, nested, len(flat), where)
    raw = pack(flat, declared.datatype, where)
    return Tensor(declared.name, declared.datatype, shape, raw, field=where)


def _encoded(value: object, where: str) -> list[tuple[bytes, str]]:
    """Pictures as base64, with where each stood; empty where the value is something else."""
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) and row.keys() == {"b64"} for row in rows):
        return []
    pictures = []
    for i, row in enumerate(rows):
        place_ = f"{where}[{i}].b64" if isinstance(value, list) else f"{where}.b64"
        if not isinstance(row["b64"], str):
            raise ConversionError(Reason.WRONG_TYPE, place_, "must be a string")
        pictures.append((base64_bytes(row["b64"], place_), place_))
    return pictures


def _refuse_unknown(members: Mapping[str, object], known: frozenset[str], prefix: str) -> None:
    for name in members:
        if name not in known:
            raise ConversionError(
                Reason.UNKNOWN_MEMBER,
                prefix + _written(name),
                f"is not known here; there are {', '.join(sorted(known))}",
            )


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ConversionError(Reason.WRONG_TYPE, where, "must be an object")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise ConversionError(Reason.WRONG_TYPE, where, "must be an array")
    return value


def _written(name: str) -> str:
    """A member's name as the place of an error, which is never empty and never long."""
    return name[:120] or '""'
