"""Responses of model servers are read leniently: what a server may say passes."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from extproc.convert import ConversionError, Converters, ResponseOptions
from protos import inference_pb2 as v2
from sluice.config.tensors import TensorOutput
from tests.extproc.convert.payloads import model, tensor_input

LABELS = (TensorOutput(name="scores", labels=("cat", "dog", "owl"), top_k=2),)
SIGNATURE = model(tensor_input("x", "FP32", -1), outputs=LABELS)
V2 = ResponseOptions()
V1 = ResponseOptions(form="v1")


def scores(**members: object) -> dict[str, Any]:
    """The output `scores` of a REST server, with other members."""
    return {
        "name": "scores",
        "datatype": "FP32",
        "shape": [1, 3],
        "data": [0.1, 0.7, 0.2],
    } | members


def document(*outputs: object, **members: object) -> dict[str, Any]:
    return {"model_name": "m", "outputs": list(outputs or (scores(),)), **members}


def convert(
    body: bytes | dict[str, Any],
    options: ResponseOptions = V2,
    content_type: str = "application/json",
) -> dict[str, Any] | None:
    """The response of a REST server as the client gets it; None if it passes unchanged."""
    converter = Converters(SIGNATURE, "http").choose("application/json")
    assert converter is not None
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    converted = converter.convert_response(options, 200, {"content-type": content_type}, sent)
    return None if converted is None else orjson.loads(converted.body)


def top_k(converted: dict[str, Any] | None) -> list[list[str]]:
    assert converted is not None
    return [[c["label"] for c in row] for row in converted["outputs"][0]["top_k"]]


@pytest.mark.parametrize(
    "body",
    [
        document(model_version=None, id=None, parameters=None),
        document(model_version=3),
        {"outputs": [scores()]},
        document(parameters={"headers": {"x": ["y"]}, "content_type": None}, timing=[1]),
        document(scores(parameters={"nested": {"a": [1]}}, extra={"b": 2})),
        document(scores(shape=[1.0, 3.0])),
        document(scores(shape=[-1, 3])),
        document(scores(shape=None, data=[[0.1, 0.7, 0.2]])),
        document(scores(shape=[3])),
        document(scores(datatype="fp32")),
        document(scores(datatype="FP16")),
        document(scores(datatype="BF16")),
        document(scores(datatype="FLOAT")),
        document(scores(datatype=None)),
        document(scores(data=["0.1", "0.7", 0])),
        document(scores(), {"name": "n", "datatype": "INT64", "shape": [1], "data": [1.0]}),
        document(scores(), {"name": "b", "datatype": "BOOL", "shape": [2], "data": [0, 1]}),
        document(scores(), {"name": "t", "datatype": "DATETIME", "shape": [1], "data": [None]}),
        document(scores(), {"name": "s", "parameters": {"shared_memory_region": "r"}}),
        b"\xef\xbb\xbf" + json.dumps(document()).encode(),
    ],
    ids=lambda body: str(body)[:100],
)  # fmt: skip
def test_labels_are_added_and_the_rest_of_a_rest_response_passes_unchanged(
    body: bytes | dict[str, Any],
) -> None:
    converted = convert(body)
    assert top_k(converted)[0][0] == "dog"
    assert converted is not None
    del converted["outputs"][0]["top_k"]
    sent = json.loads(body) if isinstance(body, bytes) else body
    assert converted == sent


@pytest.mark.parametrize("token", ["null", "NaN", '"NaN"'])
def test_nan_in_a_rest_response_is_null_and_has_no_place_among_the_best(token: str) -> None:
    text = json.dumps(document(scores(data="?"))).replace('"?"', f"[{token}, 0.25, 0.5]")
    converted = convert(text.encode())
    assert top_k(converted) == [["owl", "dog"]]
    assert converted is not None
    assert converted["outputs"][0]["data"][1:] == [0.25, 0.5]
    assert converted["outputs"][0]["data"][0] in (None, "NaN")


def test_infinity_in_a_rest_response_is_null_and_the_best_or_the_last() -> None:
    text = json.dumps(document(scores(data=[0.5, float("inf"), float("-inf")])))
    assert "Infinity" in text
    converted = convert(text.encode())
    assert top_k(converted) == [["dog", "cat"]]
    assert converted is not None
    assert converted["outputs"][0]["data"] == [0.5, None, None]


def test_an_output_of_nan_only_has_no_best_classes() -> None:
    converted = convert(document(scores(data=[None] * 3)))
    assert converted is not None
    assert converted["outputs"][0]["top_k"] == [[]]


def test_class_numbers_may_be_written_as_floats_or_texts() -> None:
    numbers = scores(datatype="INT64", shape=[3], data=[2.0, "1", 0])
    assert top_k(convert(document(numbers))) == [["owl"], ["dog"], ["cat"]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"not JSON",
        b"[" * 100_000,
        b'{"outputs": {}}',
        document(scores(name="other")),
        {"outputs": []},
        {"error": "no such model"},
        document("text"),
        document(scores(data=[[0.1], [0.2, 0.3]])),
        document(scores(data=None)),
        document(scores(data=["a", "b", "c"])),
        document(scores(data=[])),
        document(scores(datatype="INT8", data=[1, None, 2])),
        document(scores(datatype="INT8", data=[1.5, 1, 2])),
        b'{"outputs": [{"name": "scores", "datatype": "FP32", "data": [1%s]}]}' % (b"0" * 5000),
    ],
    ids=lambda body: str(body)[:60],
)
def test_a_rest_response_to_which_no_labels_can_be_added_passes_unchanged(
    body: bytes | dict[str, Any],
) -> None:
    assert convert(body) is None


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([scores(data=[0.1, None, 0.2])], {"predictions": [[0.1, None, 0.2]]}),
        ([scores(data=[0.1, float("nan"), float("inf")])], {"predictions": [[0.1, None, None]]}),
        ([scores(datatype="INT8", data=[1.0, None, 2])], {"predictions": [[1.0, None, 2]]}),
        ([scores(shape=[-1, 1])], {"predictions": [[0.1], [0.7], [0.2]]}),
        ([scores(shape=[9], data=[[1], [2]])], {"predictions": [[1], [2]]}),
        ([scores(shape=[9])], {"predictions": [0.1, 0.7, 0.2]}),
        ([scores(datatype="STRING", data=["a", {"b64": "/w=="}, None])],
         {"predictions": [["a", {"b64": "/w=="}, None]]}),
        ([scores(shape=[3]), scores(name="n", shape=[3, 1], data=[1, 2, 3])],
         {"predictions": [{"scores": 0.1, "n": [1]}, {"scores": 0.7, "n": [2]},
                          {"scores": 0.2, "n": [3]}]}),
        ([], {"outputs": {}}),
    ],
    ids=str,
)  # fmt: skip
def test_predictions_are_what_a_rest_server_said(
    outputs: list[object], expected: dict[str, Any]
) -> None:
    assert convert({"outputs": outputs}, V1) == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"outputs": {}}', b'{"outputs": [7]}', b'{"outputs": [{"name": "x"}]}',
     b'{"outputs": [{"name": "x", "data": 7}]}'],
)  # fmt: skip
def test_a_rest_response_without_outputs_is_no_predictions(body: bytes) -> None:
    with pytest.raises(ConversionError) as caught:
        convert(body, V1)
    assert (caught.value.status, caught.value.reason) == (502, "bad_model_response")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "text/json"]
)
def test_the_content_type_of_json_is_read_leniently(content_type: str) -> None:
    assert top_k(convert(document(), content_type=content_type)) == [["dog", "owl"]]


Build = Callable[[v2.ModelInferResponse], None]


def from_grpc(build: Build) -> dict[str, Any]:
    """The response of a gRPC server as the client gets it, in JSON."""
    message = v2.ModelInferResponse(model_name="m")
    build(message)
    converter = Converters(model(outputs=LABELS), "grpc").choose("application/json")
    assert converter is not None
    converted = converter.convert_response(
        ResponseOptions(), 200, {"grpc-status": "0"}, message.SerializeToString()
    )
    assert converted is not None
    document: dict[str, Any] = orjson.loads(converted.body)
    return document


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def output(message: v2.ModelInferResponse, **fields: Any) -> None:
    raw = fields.pop("raw", None)
    contents = fields.pop("contents", None)
    added = message.outputs.add(**{"name": "y", "datatype": "FP32", "shape": [2]} | fields)
    if contents is not None:
        added.contents.MergeFrom(v2.InferTensorContents(**contents))
    if raw is not None:
        message.raw_output_contents.append(raw)


@pytest.mark.parametrize(
    ("fields", "datatype", "shape", "data"),
    [
        ({"datatype": "fp32", "raw": floats(1, 2)}, "FP32", [2], [1, 2]),
        ({"shape": [], "raw": floats(1, 2)}, "FP32", [2], [1, 2]),
        ({"shape": [], "raw": floats(1)}, "FP32", [], 1),
        ({"shape": [-1, 1], "raw": floats(1, 2)}, "FP32", [2, 1], [1, 2]),
        ({"raw": b"", "contents": {"fp32_contents": [1, 2]}}, "FP32", [2], [1, 2]),
        ({"datatype": "FP16", "contents": {"fp32_contents": [1, 2]}}, "FP16", [2], [1, 2]),
        ({"datatype": "BF16", "contents": {"fp32_contents": [1, 2]}}, "BF16", [2], [1, 2]),
        ({"datatype": "FP32", "contents": {"fp64_contents": [1, 1e99]}}, "FP32", [2], [1, None]),
        ({"datatype": "FP64", "contents": {"fp32_contents": [1, 2]}}, "FP64", [2], [1, 2]),
        ({"datatype": "INT32", "contents": {"int64_contents": [1, -2]}}, "INT32", [2], [1, -2]),
        ({"datatype": "UINT8", "contents": {"int_contents": [1, 2]}}, "UINT8", [2], [1, 2]),
        ({"datatype": "BOOL", "contents": {"int_contents": [0, 1]}}, "BOOL", [2], [False, True]),
    ],
    ids=str,
)
def test_a_grpc_response_is_read_leniently(
    fields: dict[str, Any], datatype: str, shape: list[int], data: object
) -> None:
    converted = from_grpc(lambda message: output(message, **fields))["outputs"][0]
    assert (converted["datatype"], converted["shape"]) == (datatype, shape)
    assert np.array(converted["data"]).tolist() == (data if shape else [data])


def test_outputs_of_a_grpc_response_may_mix_raw_and_typed_contents() -> None:
    def build(message: v2.ModelInferResponse) -> None:
        output(message, contents={"fp32_contents": [1, 2]})
        output(message, name="z", raw=floats(3, 4))

    assert [o["data"] for o in from_grpc(build)["outputs"]] == [[1, 2], [3, 4]]


def test_nan_of_a_grpc_response_has_no_place_among_the_best() -> None:
    nan = float("nan")
    for values, best in (((nan, 1, 2), [["owl", "dog"]]), ((nan, nan, 2), [["owl"]])):
        raw = floats(*values)
        converted = from_grpc(lambda m, raw=raw: output(m, name="scores", shape=[1, 3], raw=raw))  # type: ignore[misc]
        assert top_k(converted) == best
