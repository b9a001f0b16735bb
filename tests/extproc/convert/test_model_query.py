"""Readiness and metadata over REST become calls of a gRPC server, and its responses JSON."""

from typing import Any

import orjson
import pytest

from extproc.convert import ConversionError, ConvertedMessage, Converters, Query, Signature
from extproc.rpc import StatusCode
from protos import inference_pb2 as v2

Metadata = v2.ModelMetadataResponse
CONVERTERS = Converters(Signature("m"), "grpc")


def respond(query: Query, body: bytes, **headers: str) -> ConvertedMessage:
    converter = CONVERTERS.query(query)
    options = converter.convert_request(b"", {"x-request-id": "id-7"}).response_options
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    converted = converter.convert_response(options, 200, given or {"grpc-status": "0"}, body)
    assert converted is not None
    return converted


@pytest.mark.parametrize(
    ("query", "method", "message"),
    [
        ("ready", "ModelReady", v2.ModelReadyRequest(name="m")),
        ("metadata", "ModelMetadata", v2.ModelMetadataRequest(name="m")),
    ],
)
def test_a_query_becomes_a_call_that_names_the_model(
    query: Query, method: str, message: Any
) -> None:
    converted = CONVERTERS.query(query).convert_request(b"", {":method": "HEAD"})
    assert converted.headers[":method"] == "POST"
    assert converted.headers[":path"] == f"/inference.GRPCInferenceService/{method}"
    assert converted.body == message.SerializeToString()


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 400)])
def test_the_status_says_whether_the_model_is_ready(ready: bool, status: int) -> None:
    converted = respond("ready", v2.ModelReadyResponse(ready=ready).SerializeToString())
    assert (converted.status, converted.headers[":status"]) == (status, str(status))
    assert orjson.loads(converted.body) == {"name": "m", "ready": ready}


def test_metadata_are_those_of_the_server() -> None:
    tensor = Metadata.TensorMetadata(name="x", datatype="FP32", shape=[-1, 4])
    message = Metadata(
        name="own", versions=["1", "2"], platform="onnx", inputs=[tensor], outputs=[tensor, tensor]
    )
    converted = respond("metadata", message.SerializeToString())
    written = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    assert (converted.status, converted.content_type) == (200, "application/json")
    assert orjson.loads(converted.body) == {
        "name": "own",
        "versions": ["1", "2"],
        "platform": "onnx",
        "inputs": [written],
        "outputs": [written, written],
    }


@pytest.mark.parametrize("query", ["ready", "metadata"])
def test_an_error_of_the_server_becomes_a_problem_document(query: Query) -> None:
    converted = respond(
        query, b"", grpc_status=str(int(StatusCode.NOT_FOUND)), grpc_message="no%20m"
    )
    problem = orjson.loads(converted.body)
    assert (converted.status, problem["reason"]) == (404, "model_not_found")
    assert (problem["error"], problem["instance"]) == ("no m", "urn:request:id-7")


@pytest.mark.parametrize("query", ["ready", "metadata"])
def test_a_response_that_cannot_be_read_is_502(query: Query) -> None:
    with pytest.raises(ConversionError) as caught:
        respond(query, b"\xff")
    assert (caught.value.status, caught.value.reason) == (502, "bad_model_response")
