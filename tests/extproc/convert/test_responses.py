"""The model server's response is written as the client requested."""

import numpy as np
import orjson
import pytest

from extproc.convert import (
    ConversionError,
    ConversionLimits,
    ConvertedMessage,
    Converters,
    ResponseOptions,
    Signature,
)
from extproc.convert.converter import ServerProtocol
from extproc.rpc import StatusCode
from protos import inference_pb2 as v2
from sluice.config.tensors import TensorOutput
from tests.extproc.convert.payloads import model, tensor_input

TENSOR = b'{"name":"x","datatype":"FP32","shape":[1],"data":[1]}'
REQUEST = b'{"inputs":[' + TENSOR + b"]}"
LABELS = (TensorOutput(name="scores", labels=("cat", "dog", "owl"), top_k=2),)


def response(*outputs: tuple[str, str, list[int], bytes]) -> bytes:
    """A ModelInferResponse with raw contents."""
    message = v2.ModelInferResponse(model_name="m", model_version="1", id="7")
    for name, datatype, shape, raw in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(raw)
    return message.SerializeToString()


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
    options = converter.convert_request(request, {"accept": accept}).response_options
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    converted = converter.convert_response(options, 200, given or {"grpc-status": "0"}, body)
    assert converted is not None
    return converted


def test_a_response_is_v2_json_by_default() -> None:
    converted = respond(
        response(("y", "FP32", [1, 2], floats(0.1, 2)), ("n", "INT64", [1], b"\1" + bytes(7)))
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


def test_typed_contents_and_raw_contents_give_the_same_response() -> None:
    message = v2.ModelInferResponse(model_name="m", model_version="1", id="7")
    output = message.outputs.add(name="y", datatype="FP32", shape=[2])
    output.contents.fp32_contents.extend((0.5, 2))
    raw = response(("y", "FP32", [2], floats(0.5, 2)))
    assert respond(message.SerializeToString()).body == respond(raw).body


def test_nan_and_infinity_become_null() -> None:
    body = response(("y", "FP32", [3], floats(np.nan, np.inf, 1)))
    assert orjson.loads(respond(body).body)["outputs"][0]["data"] == [None, None, 1.0]


def test_bytes_that_are_not_utf_8_become_base64_and_are_marked() -> None:
    body = response(("y", "BYTES", [1], b"\2\0\0\0\xff\xfe"))
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
def test_accept_determines_the_encoding(accept: str, media: str) -> None:
    body = response(("y", "FP32", [1], floats(1)))
    converted = respond(body, accept=accept)
    assert converted.content_type == converted.headers["content-type"] == media
    if media == "application/x-protobuf":
        assert converted.body == body


def _split(converted: ConvertedMessage) -> tuple[dict[str, object], bytes]:
    length = int(converted.headers["inference-header-content-length"])
    return orjson.loads(converted.body[:length]), converted.body[length:]


def test_only_outputs_with_binary_data_are_sent_as_binary() -> None:
    body = response(("y", "FP32", [1], floats(1)), ("z", "FP32", [1], floats(2)))
    outputs = b'"outputs":[{"name":"y","parameters":{"binary_data":true}},{"name":"z"}]'
    head, tail = _split(respond(body, request=REQUEST[:-1] + b"," + outputs + b"}"))
    assert head["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
        {"name": "z", "datatype": "FP32", "shape": [1], "data": [2.0]},
    ]
    assert tail == floats(1)


def test_binary_data_output_applies_to_outputs_without_binary_data() -> None:
    body = response(("y", "FP32", [1], floats(1)), ("z", "FP32", [1], floats(2)))
    members = (
        b',"parameters":{"binary_data_output":true},"outputs":[{"name":"y"},'
        b'{"name":"z","parameters":{"binary_data":false}}]}'
    )
    head, tail = _split(respond(body, request=REQUEST[:-1] + members))
    assert tail == floats(1)
    assert isinstance(head["outputs"], list)
    assert head["outputs"][1]["data"] == [2.0]


def test_labels_are_sorted_by_score() -> None:
    body = response(("scores", "FP32", [2, 3], floats(0.1, 0.7, 0.2, 0.5, np.nan, 0.25)))
    output = orjson.loads(respond(body, model(outputs=LABELS)).body)["outputs"][0]
    assert output["top_k"] == [
        [{"label": "dog", "index": 1, "score": 0.7}, {"label": "owl", "index": 2, "score": 0.2}],
        [{"label": "cat", "index": 0, "score": 0.5}, {"label": "owl", "index": 2, "score": 0.25}],
    ]
    assert output["data"][:3] == [0.1, 0.7, 0.2]


@pytest.mark.parametrize(("datatype", "size"), [("INT8", 1), ("FP32", 4)])
def test_an_output_with_very_many_classes_gets_no_labels(datatype: str, size: int) -> None:
    signature = model(outputs=LABELS)
    for count, labeled in ((131_072, True), (131_074, False)):
        rows = count // 2 if datatype == "FP32" else count
        shape = [rows, 3] if datatype == "FP32" else [rows]
        raw = bytes(size * int(np.prod(shape)))
        converted = respond(response(("scores", datatype, shape, raw)), signature)
        assert ("top_k" in orjson.loads(converted.body)["outputs"][0]) == labeled


def test_class_numbers_get_their_labels() -> None:
    body = response(("scores", "UINT8", [2], b"\2\7"))
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
def test_a_request_with_instances_gets_predictions(
    outputs: list[tuple[str, str, list[int], bytes]], predictions: list[object]
) -> None:
    signature = model(tensor_input("x", "FP32", -1))
    converted = respond(response(*outputs), signature, b'{"instances": [1, 2]}')
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
def test_a_grpc_status_becomes_a_problem_document(code: int, status: int) -> None:
    converted = respond(b"", grpc_status=str(int(code)), grpc_message="no such th%C3%AFng")
    assert (converted.status, converted.headers[":status"]) == (status, str(status))
    assert converted.content_type == "application/problem+json"
    problem = orjson.loads(converted.body)
    assert (problem["status"], problem["detail"]) == (status, "no such thïng")


def test_a_status_that_is_not_a_number_counts_as_unknown() -> None:
    for status in ("x", "-1", "9" * 5000):
        assert orjson.loads(respond(b"", grpc_status=status).body)["reason"] == "model_unknown"


def test_a_local_reply_of_envoy_is_not_converted() -> None:
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
        response(("y", "FP32", [2], floats(1))),
        response(("y", "FLOAT", [1], floats(1))),
        response(("y", "FP32", [-1, -1], floats(1))),
        response(("y", "FP32", [-1, -2, -3], floats(*range(12)))),
        response(("y", "BYTES", [1], b"\xff\0\0\0")),
    ],
)
def test_an_invalid_response_becomes_502(body: bytes) -> None:
    with pytest.raises(ConversionError) as caught:
        respond(body)
    assert (caught.value.status, caught.value.reason) == (502, "bad_model_response")


def test_a_rest_response_is_converted_only_for_labels_and_predictions() -> None:
    scores = b'{"name":"scores","datatype":"FP32","shape":[1,3],"data":[0.25,0.5,1]}'
    body = b'{"model_name":"m","outputs":[' + scores + b"]}"
    headers = {"content-type": "application/json"}
    plain = Converters(model(tensor_input("x", "FP32", -1)), "http").choose("application/json")
    assert plain is not None
    assert plain.convert_response(ResponseOptions(), 200, headers, body) is None
    rows = plain.convert_response(ResponseOptions(form="v1"), 200, headers, body)
    assert rows is not None
    assert orjson.loads(rows.body) == {"predictions": [[0.25, 0.5, 1.0]]}
    signature = model(tensor_input("x", "FP32", -1), outputs=LABELS)
    labeled = Converters(signature, "http").choose("application/json")
    assert labeled is not None
    converted = labeled.convert_response(ResponseOptions(), 200, headers, body)
    assert converted is not None
    assert orjson.loads(converted.body)["outputs"][0]["top_k"][0][0]["label"] == "owl"
    assert labeled.convert_response(ResponseOptions(), 400, headers, b'{"error":"x"}') is None


@pytest.mark.parametrize(
    ("protocol", "status", "headers", "read"),
    [
        ("http", 200, {"content-type": "application/json; charset=utf-8"}, True),
        ("http", 400, {"content-type": "application/json"}, False),
        ("http", 200, {"content-type": "text/event-stream"}, False),
        ("http", 200, {"content-type": "application/x-ndjson"}, False),
        ("http", 200, {}, False),
        ("grpc", 200, {"content-type": "application/grpc"}, True),
        ("grpc", 200, {"content-type": "application/grpc+proto"}, True),
        ("grpc", 503, {"content-type": "text/plain", "grpc-status": "14"}, True),
        ("grpc", 502, {"content-type": "text/html"}, False),
    ],
)
def test_status_and_headers_decide_whether_a_response_is_read(
    protocol: ServerProtocol, status: int, headers: dict[str, str], read: bool
) -> None:
    signature = model(tensor_input("x", "FP32", -1), outputs=LABELS)
    converter = Converters(signature, protocol).choose("application/json")
    assert converter is not None
    assert converter.reads_response(ResponseOptions(), status, headers) is read


@pytest.mark.parametrize("body", [REQUEST, b'{"x":[1]}'])
def test_a_server_is_asked_for_identity_only_if_its_response_is_read(body: bytes) -> None:
    for outputs, expected in ((LABELS, "identity"), ((), None)):
        signature = model(tensor_input("x", "FP32", -1), outputs=outputs)
        converter = Converters(signature, "http").choose("application/json")
        assert converter is not None
        converted = converter.convert_request(body, {"accept-encoding": "gzip"})
        assert converted.headers.get("accept-encoding") == expected
        assert "accept-encoding" not in converted.remove


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ("accept-encoding", None),
        ("Origin, Accept-Encoding", "Origin"),
        ("origin", None),
        ("*", None),
    ],
)
def test_headers_that_describe_the_original_body_are_removed(
    vary: str, expected: str | None
) -> None:
    body = b'{"outputs":[{"name":"scores","datatype":"FP32","shape":[1],"data":[1]}]}'
    converter = Converters(model(tensor_input("x", "FP32", -1), outputs=LABELS), "http").choose(
        "application/json"
    )
    assert converter is not None
    converted = converter.convert_response(
        ResponseOptions(), 200, {"content-type": "application/json", "vary": vary}, body
    )
    assert converted is not None
    assert {"content-length", "content-encoding", "etag", "repr-digest"} <= {*converted.remove}
    assert converted.headers.get("vary") == expected
    assert ("vary" in converted.remove) is (vary == "accept-encoding")


def test_a_json_response_that_takes_too_much_memory_is_too_large() -> None:
    limits = ConversionLimits(max_json_memory=1000)
    signature = model(tensor_input("x", "FP32", -1), outputs=LABELS)
    converter = Converters(signature, "http", limits).choose("application/json")
    assert converter is not None
    body = b'{"model_name":"m","outputs":[%b{}]}' % (b"{}," * 100)
    with pytest.raises(ConversionError) as caught:
        converter.convert_response(
            ResponseOptions(), 200, {"content-type": "application/json"}, body
        )
    assert caught.value.reason == "response_too_large"
