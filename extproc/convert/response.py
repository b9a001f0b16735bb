"""Writes the model server's answer as the client wants it: V2 JSON, V1 JSON, binary or protobuf."""

import base64
from collections.abc import Mapping

import numpy as np
import orjson

from extproc.convert.elements import Array, array, json_values
from extproc.convert.errors import ConversionError, bad_model_response
from extproc.convert.json_request import parse, read_parameters, read_tensor
from extproc.convert.limits import ConversionLimits
from extproc.convert.signature import Signature
from extproc.convert.tensor import (
    DATATYPES,
    ITEM_SIZE,
    InferenceResponse,
    Raw,
    ResponseOptions,
    Tensor,
    count_bytes,
    element_count,
    unpack_bytes,
)
from sluice.config.tensors import INTEGER_DATATYPES, TensorOutput

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_BASE64 = {"content_type": "base64"}


def read_json(body: bytes, limits: ConversionLimits) -> InferenceResponse:
    """A V2 REST response. Raises ConversionError (502)."""
    try:
        document = parse(body, limits)
        outputs = document.get("outputs")
        if not isinstance(outputs, list):
            raise bad_model_response("has no outputs")
        return InferenceResponse(
            str(document.get("model_name", "")),
            str(document.get("model_version") or ""),
            [read_tensor(entry, f"outputs[{i}]", limits) for i, entry in enumerate(outputs)],
            read_parameters(document, ""),
            str(document.get("id") or ""),
        )
    except ConversionError as error:
        raise bad_model_response(f"{error.field}: {error.detail}") from None


def check_answer(answer: InferenceResponse) -> None:
    """Raises ConversionError (502) unless every output holds what its shape says."""
    for tensor in answer.outputs:
        if tensor.datatype not in DATATYPES:
            raise bad_model_response(
                f"{tensor.field} has the unknown datatype {tensor.datatype[:40]!r}"
            )
        item = ITEM_SIZE.get(tensor.datatype)
        if any(size < 0 for size in tensor.shape) or len(tensor.shape) > 32:
            raise bad_model_response(f"{tensor.field} has the shape {list(tensor.shape)[:32]}")
        wanted = element_count(tensor.shape)
        if item is None:
            matches = _bytes_count(tensor) == wanted
        else:
            matches = len(tensor.data) == wanted * item
        if not matches:
            raise bad_model_response(f"{tensor.field} does not hold {wanted} elements")


def write_json(answer: InferenceResponse, signature: Signature, reply: ResponseOptions) -> bytes:
    """V2 JSON with flat data, best classes added to outputs with labels; or V1 predictions.

    NaN and infinity become null; BYTES that are not UTF-8 become base64, and say so.
    """
    if reply.form == "v1":
        return orjson.dumps(_predictions(answer), option=_OPTIONS)
    labelled = _labelled(signature)
    return orjson.dumps(
        _document(answer, [_output(tensor, labelled) for tensor in answer.outputs]),
        option=_OPTIONS,
    )


def write_binary(
    answer: InferenceResponse, signature: Signature, reply: ResponseOptions
) -> tuple[bytes, int]:
    """The binary tensor data extension's form, and the length of the JSON in front."""
    labelled = _labelled(signature)
    outputs: list[dict[str, object]] = []
    blobs: list[Raw] = []
    for tensor in answer.outputs:
        if tensor.name in reply.text or (
            reply.encoding != "binary" and tensor.name not in reply.binary
        ):
            outputs.append(_output(tensor, labelled))
            continue
        parameters = {**tensor.parameters, "binary_data_size": len(tensor.data)}
        outputs.append({**_head(tensor), "parameters": parameters})
        blobs.append(tensor.data)
    head = orjson.dumps(_document(answer, outputs), option=_OPTIONS)
    return b"".join((head, *blobs)), len(head)


def _document(answer: InferenceResponse, outputs: list[dict[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {"model_name": answer.model}
    if answer.version:
        document["model_version"] = answer.version
    if answer.id:
        document["id"] = answer.id
    if answer.parameters:
        document["parameters"] = answer.parameters
    document["outputs"] = outputs
    return document


def _head(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _output(tensor: Tensor, labelled: Mapping[str, TensorOutput]) -> dict[str, object]:
    entry = _head(tensor)
    if tensor.parameters:
        entry["parameters"] = tensor.parameters
    try:
        entry["data"] = json_values(tensor.data, tensor.datatype, tensor.field)
    except UnicodeDecodeError:
        entry["parameters"] = {**tensor.parameters, **_BASE64}
        entry["data"] = _base64(tensor)
    declared = labelled.get(tensor.name)
    if declared is not None and (classes := _best(tensor, declared)):
        entry["top_k"] = classes
    return entry


def _base64(tensor: Tensor) -> list[str]:
    items = unpack_bytes(tensor.data, tensor.field)
    return [base64.b64encode(item).decode() for item in items]


def _labelled(signature: Signature) -> dict[str, TensorOutput]:
    return {output.name: output for output in signature.outputs if output.labels}


def _best(tensor: Tensor, declared: TensorOutput) -> list[list[dict[str, object]]]:
    """For each row of scores the best classes, best first; for class numbers their labels."""
    if tensor.datatype in ("BYTES", "BOOL") or not tensor.shape or not len(tensor.data):
        return []
    values = array(tensor.data, tensor.datatype)
    if tensor.datatype in INTEGER_DATATYPES:
        return [[_named(int(index), declared)] for index in values.tolist()]
    scores = values.astype(np.float64 if tensor.datatype == "FP64" else np.float32)
    rows = scores.reshape(-1, tensor.shape[-1])
    # argsort ranks NaN last, which is where it belongs.
    order = np.argsort(np.negative(rows), axis=1, kind="stable")[:, : declared.top_k]
    return [
        [{**_named(int(index), declared), "score": row[index]} for index in best]
        for row, best in zip(rows, order, strict=True)
    ]


def _named(index: int, declared: TensorOutput) -> dict[str, object]:
    known = 0 <= index < len(declared.labels)
    return {"label": declared.labels[index] if known else None, "index": index}


def _predictions(answer: InferenceResponse) -> dict[str, object]:
    columns = {tensor.name: _nested(tensor) for tensor in answer.outputs}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    heights = {tensor.shape[0] if tensor.shape else None for tensor in answer.outputs}
    if len(heights) != 1 or heights == {None}:
        # Outputs that do not run along one batch have no rows (TensorFlow Serving's column form).
        return {"outputs": columns}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _nested(tensor: Tensor) -> Array | list[object]:
    if tensor.datatype != "BYTES":
        return array(tensor.data, tensor.datatype).reshape(tensor.shape)
    items = unpack_bytes(tensor.data, tensor.field)
    flat = np.empty(len(items), dtype=object)
    flat[:] = [_text(item) for item in items]
    nested: list[object] = flat.reshape(tensor.shape).tolist()
    return nested


def _text(item: bytes) -> object:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}


def _bytes_count(tensor: Tensor) -> int:
    try:
        return count_bytes(tensor.data, tensor.field)
    except ConversionError as error:
        raise bad_model_response(f"{tensor.field} {error.detail}") from None
