"""Converts the JSON response of a REST model server: adds labels, or writes predictions.

The gateway reads such a response leniently. A server may say more than the protocol defines, or say
it in another way: `null` for NaN, `1.0` for an integer, further members, other datatypes. The
gateway changes only what it must, and everything else passes as the server wrote it.
"""

import json
from collections.abc import Mapping

import numpy as np
import orjson

from extproc.convert.elements import flatten
from extproc.convert.errors import ConversionError, bad_model_response, response_too_large
from extproc.convert.json_array import json_list
from extproc.convert.json_document import checked_size, without_bom
from extproc.convert.limits import ConversionLimits
from extproc.convert.predictions import in_shape, write_predictions
from extproc.convert.response_elements import floats, integers
from extproc.convert.signature import Signature
from sluice.config.tensors import INTEGER_DATATYPES, TensorOutput
from sluice.garbage_collection import without_collection
from sluice.tensors.elements import Array
from sluice.tensors.labels import MAX_CLASSES, Classes, TopClasses
from sluice.tensors.shapes import MAX_OUTPUT_DIMENSIONS, fitting_shape

Document = dict[str, object]


def with_labels(body: bytes, signature: Signature, limits: ConversionLimits) -> bytes | None:
    """The response with `top_k` for outputs with labels; None if no output can get it.

    NaN and infinity become null. Raises ConversionError (502) for a response that would take too
    much memory.
    """
    document = read_document(body, limits)
    labeled = {output.name: output for output in signature.outputs if output.labels}
    outputs = _outputs(document)
    top, changed = TopClasses(), False
    for output in outputs:
        declared = labeled.get(str(output.get("name")))
        if declared is not None and (classes := _top_classes(output, declared, top, limits)):
            output["top_k"] = classes
            changed = True
    if not changed:
        return None
    try:
        for output in outputs:
            if isinstance(output.get("data"), list):
                output["data"] = orjson.Fragment(json_list(output["data"]))  # type: ignore[arg-type]
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # A text or a number that the parser of Python accepts, and orjson does not write.
        return None


def predictions(body: bytes, limits: ConversionLimits) -> bytes:
    """The response of the V1 protocol, with the elements as the server wrote them.

    NaN and infinity become null. Raises ConversionError (502) for a response without outputs.
    """
    document = read_document(body, limits)
    outputs = None if document is None else document.get("outputs")
    if not isinstance(outputs, list):
        raise bad_model_response("has no outputs in JSON")
    columns = {}
    for i, output in enumerate(outputs):
        if not isinstance(output, dict):
            raise bad_model_response(f"outputs[{i}] is not an object")
        columns[str(output.get("name", f"outputs[{i}]"))] = _nested(output, i, limits)
    try:
        return write_predictions(columns)
    except TypeError:
        raise bad_model_response("has a value that JSON cannot represent") from None


def read_document(body: bytes, limits: ConversionLimits) -> Document | None:
    """The document; None if it is not a JSON object. Raises ConversionError (502)."""
    try:
        checked_size(body, of_response(limits))
    except ConversionError as error:
        raise response_too_large(error.detail) from None
    text = without_bom(body)
    # orjson refuses NaN, Infinity, and single surrogates. Python's parser reads and writes them, so
    # servers send them.
    for parse in (orjson.loads, json.loads):
        try:
            document = without_collection(parse, text)
        except (ValueError, RecursionError):
            continue
        return document if isinstance(document, dict) else None
    return None


def of_response(limits: ConversionLimits) -> ConversionLimits:
    """The limits of a response, which may be twice as large as a request (see docs/conversion.md).

    Clients do not write it.
    """
    return ConversionLimits(
        max_json_memory=2 * limits.max_json_memory, max_dimensions=MAX_OUTPUT_DIMENSIONS
    )


def _outputs(document: Document | None) -> list[Document]:
    """The outputs that are objects."""
    found = None if document is None else document.get("outputs")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _top_classes(
    output: Document, declared: TensorOutput, top: TopClasses, limits: ConversionLimits
) -> Classes:
    """The best classes; empty if the data are not numbers of classes or their scores."""
    try:
        flat, nesting = flatten(output.get("data"), "data", of_response(limits))
        datatype = str(output.get("datatype")).upper()
        if not flat or not nesting or datatype in ("BYTES", "BOOL"):
            return []
        if datatype in INTEGER_DATATYPES:
            return top.of_numbers(integers(flat[: MAX_CLASSES + 1]), declared)
        scores = floats(flat, datatype).reshape(
            output_shape(output.get("shape"), nesting, len(flat))
        )
        return top.of_scores(scores, declared)
    except (ConversionError, TypeError, ValueError, OverflowError):
        return []


def output_shape(declared: object, nesting: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The shape that the server declared if it fits the elements, else the shape of the arrays."""
    if len(nesting) > 1 or not isinstance(declared, list):
        return nesting
    if not 0 < len(declared) <= MAX_OUTPUT_DIMENSIONS:
        return nesting
    try:
        return fitting_shape(tuple(integers(declared)), count) or nesting
    except (TypeError, ValueError, OverflowError):
        return nesting


def _nested(output: Mapping[str, object], index: int, limits: ConversionLimits) -> Array:
    """The elements as an array of objects, in the shape of the output."""
    data = output.get("data")
    if not isinstance(data, list):
        raise bad_model_response(f"outputs[{index}] has no data in JSON")
    try:
        flat, nesting = flatten(data, f"outputs[{index}].data", of_response(limits))
    except ConversionError as error:
        raise bad_model_response(f"{error.field}: {error.detail}") from None
    elements = np.empty(len(flat), dtype=object)
    elements[:] = flat
    return in_shape(elements, output_shape(output.get("shape"), nesting, len(flat)))
