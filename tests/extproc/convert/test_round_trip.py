"""Conversion of V2 JSON to gRPC and back keeps the values of every datatype."""

import math
import struct

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.convert import Converters, ResponseOptions
from protos import inference_pb2 as v2
from tests.extproc.convert.payloads import model, sent, to_grpc


def _integers(bits: int, signed: bool) -> st.SearchStrategy[object]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high)


def _bf16() -> st.SearchStrategy[object]:
    def widened(bits: int) -> float:
        return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])

    return st.integers(0, 0xFFFF).map(widened).filter(math.isfinite)


def _floats(width: int) -> st.SearchStrategy[object]:
    return st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]


ELEMENTS: dict[str, st.SearchStrategy[object]] = {
    "BOOL": st.booleans(),
    **{f"UINT{bits}": _integers(bits, signed=False) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": _integers(bits, signed=True) for bits in (8, 16, 32, 64)},
    "FP16": _floats(16),
    "BF16": _bf16(),
    "FP32": _floats(32),
    "FP64": _floats(64),
    "BYTES": st.text(),
}
SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=4)
EXTENSION_PARAMETERS = {"binary_data", "binary_data_size", "binary_data_output"}
"""Parameters for the gateway. The model does not get them."""
PARAMETERS = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name not in EXTENSION_PARAMETERS),
    st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | _floats(64) | st.text(),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, object]:
    """A V2 request of one to three tensors, data flat or nested."""
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3, unique=True))
    inputs = []
    for name in names:
        datatype = draw(st.sampled_from(sorted(ELEMENTS)))
        shape = draw(SHAPES)
        count = math.prod(shape)
        flat = draw(st.lists(ELEMENTS[datatype], min_size=count, max_size=count))
        nested = np.empty(count, dtype=object)
        nested[:] = flat
        inputs.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": shape,
                "data": nested.reshape(shape).tolist() if draw(st.booleans()) and count else flat,
                "parameters": draw(PARAMETERS),
            }
        )
    return {"id": draw(st.text()), "parameters": draw(PARAMETERS), "inputs": inputs}


def _echoed(body: bytes) -> dict[str, object]:
    """The response of a model server that returns its inputs."""
    converter = Converters(model(), "grpc").choose("application/json")
    assert converter is not None
    request = sent(converter.convert_request(body, {}))
    response = v2.ModelInferResponse(id=request.id, raw_output_contents=request.raw_input_contents)
    for name, parameter in request.parameters.items():
        response.parameters[name].CopyFrom(parameter)
    for entry in request.inputs:
        response.outputs.add().ParseFromString(entry.SerializeToString())
    converted = converter.convert_response(
        ResponseOptions(), 200, {"grpc-status": "0"}, response.SerializeToString()
    )
    assert converted is not None
    document = orjson.loads(converted.body)
    assert isinstance(document, dict)
    return document


def _flat(data: object) -> list[object]:
    if not isinstance(data, list):
        return [data]
    return [element for item in data for element in _flat(item)]


@given(requests())
def test_an_echoed_request_equals_the_original(request: dict[str, object]) -> None:
    response = _echoed(orjson.dumps(request))
    assert response.get("id", "") == request["id"]
    assert response.get("parameters", {}) == request["parameters"]
    outputs, inputs = response["outputs"], request["inputs"]
    assert isinstance(outputs, list)
    assert isinstance(inputs, list)
    for output, tensor in zip(outputs, inputs, strict=True):
        assert {k: output[k] for k in ("name", "datatype", "shape")} == {
            k: tensor[k] for k in ("name", "datatype", "shape")
        }
        assert output.get("parameters", {}) == tensor["parameters"]
        # FP32 is written as its shortest decimal, which is another FP64 number.
        single = tensor["datatype"] in ("FP16", "BF16", "FP32")
        came = [np.float32(x) if single else x for x in output["data"]]
        went = [np.float32(x) if single else x for x in _flat(tensor["data"])]  # type: ignore[arg-type]
        assert came == went
        assert [type(x) for x in output["data"]] == [type(x) for x in _flat(tensor["data"])]
        assert [str(x) for x in came] == [str(x) for x in went], "the sign of zero"


@pytest.mark.parametrize("text", ["0.1", "3.4028235e38", "1e-45", "-0.0", "16777217.0"])
def test_fp32_is_written_as_the_shortest_decimal_with_the_same_value(text: str) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[%s]}]}' % text.encode()
    outputs = _echoed(body)["outputs"]
    assert isinstance(outputs, list)
    assert np.float32(outputs[0]["data"][0]) == np.float32(text)
    assert len(repr(outputs[0]["data"][0])) <= len(repr(float(text)))


def test_bytes_keep_text_that_is_not_ascii() -> None:
    body = '{"inputs":[{"name":"x","datatype":"BYTES","shape":[2],"data":["żółć","\\u0000"]}]}'
    converted = to_grpc(model(), "application/json", body.encode())
    text = "żółć".encode()
    packed = struct.pack("<I", len(text)) + text + struct.pack("<I", 1) + b"\0"
    assert list(sent(converted).raw_input_contents) == [packed]
