"""Reads a ModelInferResponse of a gRPC model server leniently, and checks that its data fit.

A server may omit the shape, write the datatype in lower case, or use the contents of another type.
"""

from collections.abc import Sequence

from extproc.convert.elements import pack, pack_texts
from extproc.convert.errors import (
    ConversionError,
    bad_model_response,
    quoted,
    response_too_large,
    shape_text,
)
from extproc.convert.inference import InferenceResponse
from extproc.convert.limits import ConversionLimits
from extproc.convert.protobuf import parse_response, read_parameters
from extproc.convert.protobuf_wire import RESPONSE
from extproc.convert.response_elements import raw_data
from extproc.convert.tensor import Tensor, raw_element_count
from protos import inference_pb2 as v2
from sluice.contract.reasons import Reason
from sluice.tensors.contents import Output, raw_contents
from sluice.tensors.datatypes import CONTENTS, DATATYPES
from sluice.tensors.shapes import MAX_OUTPUT_DIMENSIONS, fitting_shape


def read_response(body: bytes, limits: ConversionLimits) -> InferenceResponse:
    """A response whose tensors have data that fit their shapes. Raises ConversionError (502)."""
    message = v2.ModelInferResponse()
    parse_response(message, body, RESPONSE, limits)
    if len(message.outputs) > limits.max_entries:
        raise response_too_large(f"must have at most {limits.max_entries} outputs")
    entries = list(message.outputs)
    contents = _raw_contents(entries, list(message.raw_output_contents))
    try:
        outputs = [
            _tensor(entry, raw, f"outputs[{i}]")
            for i, (entry, raw) in enumerate(zip(entries, contents, strict=True))
        ]
    except ConversionError as error:
        if error.reason is Reason.BAD_MODEL_RESPONSE:
            raise
        raise bad_model_response(f"{error.field}: {error.detail}") from None
    return InferenceResponse(
        message.model_name,
        message.model_version,
        outputs,
        read_parameters(message.parameters),
        message.id,
    )


def _raw_contents(entries: list[Output], raw: list[bytes]) -> Sequence[bytes | None]:
    try:
        return raw_contents(entries, raw)
    except ValueError as error:
        raise bad_model_response(str(error)) from None


def _tensor(entry: Output, raw: bytes | None, field: str) -> Tensor:
    datatype = entry.datatype.upper()
    if datatype not in DATATYPES:
        raise bad_model_response(f"{field} has the unknown datatype {quoted(entry.datatype)}")
    declared = entry.shape
    if len(declared) > MAX_OUTPUT_DIMENSIONS:
        raise bad_model_response(f"{field} has {len(declared)} dimensions")
    sizes = tuple(declared)
    data = _typed(entry.contents, datatype, field) if raw is None else raw
    count = raw_element_count(data, datatype, field)
    shape = fitting_shape(sizes, count)
    if shape is None:
        raise bad_model_response(f"{field} has {count} elements for the shape {shape_text(sizes)}")
    return Tensor(entry.name, datatype, shape, data, read_parameters(entry.parameters), field)


def _typed(contents: v2.InferTensorContents, datatype: str, field: str) -> bytes:
    """Raw data of typed contents. FP16 and BF16 have no contents of their own."""
    present = {descriptor.name: values for descriptor, values in contents.ListFields()}
    if not present:
        return b""
    own = CONTENTS.get(datatype, "")
    member = own if own in present else next(iter(present))
    if (member == "bytes_contents") != (datatype == "BYTES"):
        raise bad_model_response(f"{field} has {member} for the datatype {datatype}")
    if datatype == "BYTES":
        return pack_texts(contents.bytes_contents)
    if member == own:
        return pack(present[member], datatype, f"{field}.contents.{member}")
    try:
        return raw_data(present[member], datatype, f"{field}.contents.{member}")
    except (ValueError, TypeError, OverflowError):
        raise bad_model_response(f"{field} has {member} for the datatype {datatype}") from None
