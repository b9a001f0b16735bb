"""A small response of a model server does not become a large one, and does not take the memory."""

import json
from typing import Any

import orjson
import pytest

from extproc.convert import ConversionError, Converters, ResponseOptions
from extproc.convert.converter import Converter
from extproc.convert.limits import DEFAULT
from protos import inference_pb2 as v2
from sluice.config.tensors import TensorOutput
from sluice.contract.reasons import Reason
from sluice.tensors.labels import MAX_CLASSES
from tests.extproc.convert.payloads import model, tensor_input

LABELS = (TensorOutput(name="y", labels=("cat", "dog"), top_k=2),)
SIGNATURE = model(tensor_input("x", "FP32", -1), outputs=LABELS)
V2, V1 = ResponseOptions(), ResponseOptions(form="v1")
GRPC = {"content-type": "application/grpc", "grpc-status": "0"}
REST = {"content-type": "application/json"}
HALF = MAX_CLASSES // 2 + 1
"""Elements of an output, two of which have too many classes together."""


def convert(converter: Converter, options: ResponseOptions, body: bytes) -> dict[str, Any]:
    headers = GRPC if converter.protocol == "grpc" else REST
    converted = converter.convert_response(options, 200, headers, body)
    assert converted is not None
    found: dict[str, Any] = orjson.loads(converted.body)
    return found


def grpc(options: ResponseOptions, message: v2.ModelInferResponse | bytes) -> dict[str, Any]:
    converter = Converters(SIGNATURE, "grpc").choose("application/json")
    assert converter is not None
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return convert(converter, options, body)


def rest(options: ResponseOptions, *outputs: dict[str, Any]) -> dict[str, Any]:
    converter = Converters(SIGNATURE, "http").choose("application/json")
    assert converter is not None
    return convert(converter, options, json.dumps({"outputs": outputs}).encode())


def assert_too_large(raised: pytest.ExceptionInfo[ConversionError]) -> None:
    assert raised.value.reason is Reason.RESPONSE_TOO_LARGE


def outputs(*shapes: list[int]) -> v2.ModelInferResponse:
    """A response with outputs of one byte for each element. The names are 0, 1 and so on."""
    message = v2.ModelInferResponse()
    for i, shape in enumerate(shapes):
        message.outputs.add(name=str(i), datatype="INT8", shape=shape)
        elements = 1
        for size in shape:
            elements *= size
        message.raw_output_contents.append(bytes(elements))
    return message


def test_an_output_that_is_repeated_gets_no_more_classes_than_one() -> None:
    message = outputs([HALF], [HALF], [1])
    for output in message.outputs:
        output.name = "y"
    labeled = ["top_k" in output for output in grpc(V2, message)["outputs"]]
    assert labeled == [True, False, True]
    data = {"name": "y", "datatype": "INT8", "data": [0] * HALF}
    found = rest(V2, data, data, {"name": "y", "datatype": "FP32", "data": [1]})
    assert ["top_k" in output for output in found["outputs"]] == [True, False, True]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "shape", [[10**12, 0], [2**62, 0, 3], [1, 10**9, 0], [10**6, 10**6, 0], [1 << 17, 0]]
)
def test_arrays_without_elements_are_bounded(shape: list[int], count: int) -> None:
    with pytest.raises(ConversionError) as raised:
        grpc(V1, outputs(*[shape] * count))
    assert_too_large(raised)
    with pytest.raises(ConversionError) as raised:
        rest(V1, *({"name": str(i), "shape": shape, "data": []} for i in range(count)))
    assert_too_large(raised)


def test_many_outputs_have_no_more_arrays_without_elements_than_one() -> None:
    assert grpc(V1, outputs([1000, 0], [1000, 0]))["predictions"] == [{"0": [], "1": []}] * 1000
    with pytest.raises(ConversionError) as raised:
        grpc(V1, outputs(*[[1000, 0]] * 100))
    assert_too_large(raised)


@pytest.mark.parametrize(
    ("shape", "predictions"), [([0, 2**62, 2**62], []), ([2, 0, 2**62], [[], []])]
)
def test_sizes_after_a_zero_do_not_matter(shape: list[int], predictions: list[object]) -> None:
    assert grpc(V1, outputs(shape)) == {"predictions": predictions}
    assert rest(V1, {"name": "y", "shape": shape, "data": []}) == {"predictions": predictions}


def test_a_long_name_is_not_repeated_in_many_rows() -> None:
    message = outputs([2000], [2000])
    message.outputs[0].name = "n" * 20_000
    with pytest.raises(ConversionError) as raised:
        grpc(V1, message)
    assert_too_large(raised)
    columns = ({"name": name, "data": [0] * 2000} for name in ("n" * 20_000, "m"))
    with pytest.raises(ConversionError) as raised:
        rest(V1, *columns)
    assert_too_large(raised)


def test_the_fields_of_a_grpc_response_are_counted_before_it_is_parsed() -> None:
    field = v2.ModelInferResponse(outputs=[{}]).SerializeToString()
    with pytest.raises(ConversionError) as raised:
        grpc(V2, field * (DEFAULT.max_fields + 1))
    assert_too_large(raised)
    assert "fields" in raised.value.detail


def test_the_outputs_of_a_grpc_response_are_bounded() -> None:
    field = v2.ModelInferResponse(outputs=[{"datatype": "BOOL"}]).SerializeToString()
    with pytest.raises(ConversionError) as raised:
        grpc(V2, field * (DEFAULT.max_entries + 1))
    assert_too_large(raised)
    assert "outputs" in raised.value.detail


def test_the_tensors_in_metadata_are_counted_before_they_are_parsed() -> None:
    converter = Converters(SIGNATURE, "grpc").query("metadata")
    field = v2.ModelMetadataResponse(inputs=[{}]).SerializeToString()
    assert len(convert(converter, V2, field * 1000)["inputs"]) == 1000
    with pytest.raises(ConversionError) as raised:
        convert(converter, V2, field * (DEFAULT.max_fields + 1))
    assert_too_large(raised)


def test_the_fields_of_a_grpc_response_reserve_memory() -> None:
    converter = Converters(SIGNATURE, "grpc").choose("application/json")
    assert converter is not None
    field = v2.ModelInferResponse(outputs=[{"datatype": "BOOL"}]).SerializeToString()
    body = field * 1000
    needed = next(converter.response_steps(V2, 200, GRPC, body))
    assert needed > 500 * 2 * 1000
