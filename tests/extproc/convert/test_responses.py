"""The model server's answer reaches the client as it asked for it."""

import numpy as np
import orjson
import pytest

from extproc.convert import (
    ConversionError,
    ConvertedMessage,
    Converters,
    ResponseOptions,
    Signature,
)
from extproc.rpc import StatusCode
from protos import inference_pb2 as v2
from sluice.config.tensors import TensorOutput
from tests.extproc.convert.payloads import model, tensor_input

TENSOR = b'{"name":"x","datatype":"FP32","shape":[1],"data":[1]}'
REQUEST = b'{"inputs":[' + TENSOR + b"]}"
LABELS = (TensorOutput(name="scores", labels=("cat", "dog", "owl"), top_k=2),)


def answer(*outputs: tuple[str, str, list[int], bytes]) -> bytes:
    """A ModelInferResponse with raw contents."""
    response = v2.ModelInferResponse(model_name="m", model_version="1", id="7")
    for name, datatype, shape, raw in outputs:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
        response.raw_output_contents.append(raw)
    return response.SerializeToString()


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def respond(
    body: bytes,
    signature: Signature | None = None,
    request: bytes = REQUEST,
    *,
    accept: str = "",
    **headers: str,
) -> ConvertedMessage:
    converter = Converters(signature or model(), "grpc").choose("application/json")
    assert converter is not None
    reply = converter.convert_request(request, {"accept": accept}).response_options
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    converted = converter.convert_response(reply, 200, given or {"grpc-status": "0"}, body)
    assert converted is not None
    return converted


def test_an_answer_is_v2_json_unless_the_client_says_otherwise() -> None:
    converted = respond(
        answer(("y", "FP32", [1, 2], floats(0.1, 2)), ("n", "INT64", [1], b"\1" + bytes(7)))
    )
    assert converted.content_type == "application/json"
    assert orjson.loads(converted.body) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 2.0]},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [1]},
        ],
    }
    assert {"grpc-status", "grpc-message", "content-length"} <= set(converted.remove)


def test_typed_contents_are_read_as_raw_ones_are() -> None:
    response = v2.ModelInferResponse(model_name="m", model_version="1", id="7")
    output = response.outputs.add(name="y", datatype="FP32", shape=[2])
    output.contents.fp32_contents.extend((0.5, 2))
    raw = answer(("y", "FP32", [2], floats(0.5, 2)))
    assert respond(response.SerializeToString()).body == respond(raw).body


def test_nan_and_infinity_become_null() -> None:
    body = answer(("y", "FP32", [3], floats(np.nan, np.inf, 1)))
    assert orjson.loads(respond(body).body)["outputs"][0]["data"] == [None, None, 1.0]


def test_bytes_that_are_no_text_become_base64_and_say_so() -> None:
    body = answer(("y", "BYTES", [1], b"\2\0\0\0\xff\xfe"))
    output = orjson.loads(respond(body).body)["outputs"][0]
    assert output["data"] == ["//4="]
    assert output["parameters"] == {"content_type": "base64"}


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "application/json"),
        ("application/x-protobuf", "application/x-protobuf"),
        ("application/protobuf, application/json;q=0.5", "application/x-protobuf"),
        ("application/protobuf;q=0.4, application/json;q=0.5", "application/json"),
        ("application/octet-stream", "application/octet-stream"),
        ("application/json, */*;q=0.1", "application/json"),
    ],
)
def test_accept_chooses_the_encoding(accept: str, media: str) -> None:
    body = answer(("y", "FP32", [1], floats(1)))
    converted = respond(body, accept=accept)
    assert converted.content_type == converted.headers["content-type"] == media
    if media == "application/x-protobuf":
        assert converted.body == body


def _split(converted: ConvertedMessage) -> tuple[dict[str, object], bytes]:
    length = int(converted.headers["inference-header-content-length"])
    return orjson.loads(converted.body[:length]), converted.body[length:]


def test_binary_outputs_are_sent_binary_and_the_others_in_json() -> None:
    body = answer(("y", "FP32", [1], floats(1)), ("z", "FP32", [1], floats(2)))
    outputs = b'"outputs":[{"name":"y","parameters":{"binary_data":true}},{"name":"z"}]'
    head, tail = _split(respond(body, request=REQUEST[:-1] + b"," + outputs + b"}"))
    assert head["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
        {"name": "z", "datatype": "FP32", "shape": [1], "data": [2.0]},
    ]
    assert tail == floats(1)


def test_binary_data_output_makes_all_outputs_binary_but_those_that_are_named() -> None:
    body = answer(("y", "FP32", [1], floats(1)), ("z", "FP32", [1], floats(2)))
    members = (
        b',"parameters":{"binary_data_output":true},"outputs":[{"name":"y"},'
        b'{"name":"z","parameters":{"binary_data":false}}]}'
    )
    head, tail = _split(respond(body, request=REQUEST[:-1] + members))
    assert tail == floats(1)
    assert isinstance(head["outputs"], list)
    assert head["outputs"][1]["data"] == [2.0]


def test_labels_are_told_best_first() -> None:
    body = answer(("scores", "FP32", [2, 3], floats(0.1, 0.7, 0.2, 0.5, np.nan, 0.25)))
    output = orjson.loads(respond(body, model(outputs=LABELS)).body)["outputs"][0]
    assert output["top_k"] == [
        [{"label": "dog", "index": 1, "score": 0.7}, {"label": "owl", "index": 2, "score": 0.2}],
        [{"label": "cat", "index": 0, "score": 0.5}, {"label": "owl", "index": 2, "score": 0.25}],
    ]
    assert output["data"][:3] == [0.1, 0.7, 0.2]


def test_class_numbers_get_their_label() -> None:
    body = answer(("scores", "UINT8", [2], b"\2\7"))
    output = orjson.loads(respond(body, model(outputs=LABELS)).body)["outputs"][0]
    assert output["top_k"] == [[{"label": "owl", "index": 2}], [{"label": None, "index": 7}]]


@pytest.mark.parametrize(
    ("outputs", "predictions"),
    [
        ([("y", "FP32", [2, 2], floats(1, 2, 3, 4))], [[1, 2], [3, 4]]),
        ([("y", "BYTES", [1], b"\1\0\0\0a")], ["a"]),
        (
            [("y", "FP32", [2], floats(1, 2)), ("n", "BOOL", [2, 1], b"\0\1")],
            [{"y": 1, "n": [False]}, {"y": 2, "n": [True]}],
        ),
        ([("y", "FP16", [2], np.array([0.5, 2], "<f2").tobytes())], [0.5, 2]),
    ],
)
def test_instances_are_answered_with_predictions(
    outputs: list[tuple[str, str, list[int], bytes]], predictions: list[object]
) -> None:
    signature = model(tensor_input("x", "FP32", -1))
    converted = respond(answer(*outputs), signature, b'{"instances": [1, 2]}')
    assert orjson.loads(converted.body) == {"predictions": predictions}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (StatusCode.INVALID_ARGUMENT, 400),
        (StatusCode.NOT_FOUND, 404),
        (StatusCode.UNAVAILABLE, 503),
        (StatusCode.DEADLINE_EXCEEDED, 504),
        (StatusCode.UNIMPLEMENTED, 501),
        (StatusCode.RESOURCE_EXHAUSTED, 429),
        (StatusCode.INTERNAL, 500),
        (99, 500),
    ],
)
def test_a_grpc_status_becomes_a_problem(code: int, status: int) -> None:
    converted = respond(b"", grpc_status=str(int(code)), grpc_message="no such th%C3%AFng")
    assert (converted.status, converted.headers[":status"]) == (status, str(status))
    assert converted.content_type == "application/problem+json"
    problem = orjson.loads(converted.body)
    assert (problem["status"], problem["detail"]) == (status, "no such thïng")


def test_an_answer_that_is_not_the_model_servers_is_left_alone() -> None:
    converter = Converters(model(), "grpc").choose("application/json")
    assert converter is not None
    headers = {"content-type": "text/plain"}
    assert (
        converter.convert_response(ResponseOptions(), 503, headers, b"upstream connect error")
        is None
    )


def typed(datatype: str, **contents: list[int]) -> bytes:
    """A ModelInferResponse with one output in typed contents."""
    response = v2.ModelInferResponse(model_name="m")
    output = response.outputs.add(name="y", datatype=datatype, shape=[1])
    output.contents.MergeFrom(v2.InferTensorContents(**contents))
    return response.SerializeToString()


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        typed("FP16"),
        typed("INT8", int_contents=[300]),
        answer(("y", "FP32", [2], floats(1))),
        answer(("y", "FLOAT", [1], floats(1))),
        answer(("y", "FP32", [-1], floats(1))),
        answer(("y", "BYTES", [1], b"\xff\0\0\0")),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_bad_gateway(body: bytes) -> None:
    with pytest.raises(ConversionError) as caught:
        respond(body)
    assert (caught.value.status, caught.value.reason) == (502, "bad_model_response")


def test_a_rest_answer_is_touched_only_for_labels_and_predictions() -> None:
    scores = b'{"name":"scores","datatype":"FP32","shape":[1,3],"data":[0.25,0.5,1]}'
    body = b'{"model_name":"m","outputs":[' + scores + b"]}"
    headers = {"content-type": "application/json"}
    plain = Converters(model(tensor_input("x", "FP32", -1)), "http").choose("application/json")
    assert plain is not None
    assert not plain.converts_response(ResponseOptions())
    assert plain.convert_response(ResponseOptions(), 200, headers, body) is None
    rows = plain.convert_response(ResponseOptions(form="v1"), 200, headers, body)
    assert rows is not None
    assert orjson.loads(rows.body) == {"predictions": [[0.25, 0.5, 1.0]]}
    signature = model(tensor_input("x", "FP32", -1), outputs=LABELS)
    labelled = Converters(signature, "http").choose("application/json")
    assert labelled is not None
    told = labelled.convert_response(ResponseOptions(), 200, headers, body)
    assert told is not None
    assert orjson.loads(told.body)["outputs"][0]["top_k"][0][0]["label"] == "owl"
    assert labelled.convert_response(ResponseOptions(), 400, headers, b'{"error":"x"}') is None
