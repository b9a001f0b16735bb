"""Conversion over ext_proc: what Envoy gets for bodies and responses of converted requests."""

import gzip
import json
import struct
import zlib
from collections.abc import Callable

import pytest

from extproc.framing import length_prefixed
from extproc.rpc import ExhaustionHandler
from protos.ext_proc_pb2 import (
    CommonResponse,
    HttpBody,
    ProcessingMode,
    ProcessingRequest,
)
from protos.inference_pb2 import ModelInferResponse, ModelReadyRequest
from tests.extproc.services.callout import CalloutClient, body, headers, written
from tests.extproc.services.ext_proc.recorded_call import RecordedCall
from tests.extproc.services.ext_proc.streams import (
    INFER,
    TENSOR,
    answered,
    models,
    mutation,
    problem,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]


async def test_a_body_that_cannot_be_converted_is_refused_with_a_problem_document(
    client: CalloutClient,
) -> None:
    client.current_policy.apply(models(requests={"expose_reason": True}))
    request = headers((*INFER, ("x-request-id", "id-7")))
    _, refused = await client.process(request, body(b"{", end_of_stream=True))
    assert problem(refused) == (400, "not_json")
    assert "id-7" in json.loads(refused.immediate_response.body)["instance"]
    sent = written(refused.immediate_response.headers.set_headers)
    assert sent["x-sluice-reason"] == "not_json"


async def test_a_request_for_readiness_becomes_a_grpc_call_with_a_body(
    client: CalloutClient,
) -> None:
    pairs = ((":method", "GET"), (":path", "/v2/models/g/ready?a=b"), ("accept-encoding", "gzip"))
    response = await client.send_headers(pairs, end_of_stream=True)
    common = response.request_headers.response
    assert common.status == CommonResponse.CONTINUE_AND_REPLACE
    message = ModelReadyRequest(name="g").SerializeToString()
    assert common.body_mutation.body == length_prefixed(message)
    sent, removed = mutation(response)
    assert sent["x-model-service"] == "g/v1"
    assert sent[":method"] == "POST"
    assert sent[":path"] == "/inference.GRPCInferenceService/ModelReady"
    assert sent["content-type"] == "application/grpc"
    assert sent["x-sluice-path"] == "/v2/models/g/ready"
    assert "accept-encoding" in removed
    assert response.mode_override.response_header_mode == ProcessingMode.SEND
    assert response.mode_override.request_body_mode == ProcessingMode.NONE


async def test_a_body_to_convert_is_buffered_up_to_the_limit(client: CalloutClient) -> None:
    declared = await client.send_headers((*INFER, ("content-length", "2")))
    assert declared.mode_override.request_body_mode == ProcessingMode.BUFFERED_PARTIAL
    undeclared, refused = await client.process(headers(INFER), body(bytes(100)))
    assert undeclared.mode_override.request_body_mode == ProcessingMode.BUFFERED_PARTIAL
    assert problem(refused) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("grpc_status", "status", "reason"),
    [("5", 404, "model_not_found"), ("14", 503, "model_unavailable"), ("99", 500, "model_unknown")],
)
async def test_the_log_has_the_reason_that_the_client_gets_for_a_grpc_error(
    client: CalloutClient, grpc_status: str, status: int, reason: str
) -> None:
    _, _, refused = await client.process(
        headers((*INFER, ("content-length", str(len(TENSOR))))),
        body(TENSOR, end_of_stream=True),
        answered(("grpc-status", grpc_status), end_of_stream=True),
    )
    assert problem(refused) == (status, reason)
    assert refused.immediate_response.details == f"sluice:{reason}"


@pytest.mark.parametrize(
    ("coding", "compress", "converted"),
    [("gzip", gzip.compress, True), ("deflate", zlib.compress, True), ("snappy", bytes, False)],
)
async def test_a_compressed_grpc_response_is_converted(
    client: CalloutClient, coding: str, compress: Callable[[bytes], bytes], converted: bool
) -> None:
    message = compress(ModelInferResponse(model_name="g").SerializeToString())
    *_, response = await client.process(
        headers((*INFER, ("content-length", str(len(TENSOR))))),
        body(TENSOR, end_of_stream=True),
        answered(("content-type", "application/grpc"), ("grpc-encoding", coding)),
        ProcessingRequest(
            response_body=HttpBody(body=struct.pack(">BL", 1, len(message)) + message)
        ),
    )
    if converted:
        common = response.response_body.response
        assert json.loads(common.body_mutation.body)["model_name"] == "g"
        length = written(common.header_mutation.set_headers)["x-sluice-body-length"]
        assert int(length) == len(common.body_mutation.body)
    else:
        assert problem(response) == (502, "unknown_response_coding")


async def test_an_incomplete_body_is_not_converted(client: CalloutClient) -> None:
    """With a lower limit Envoy sends only the beginning, and would forward the rest unconverted."""
    _, refused = await client.process(headers(INFER), body(b"{}", end_of_stream=False))
    assert problem(refused) == (400, "malformed_request")


async def test_headers_that_grpc_does_not_allow_are_not_sent_to_the_server(
    client: CalloutClient,
) -> None:
    """Names of all requests are alike, so that only the values can differ."""
    dropped = (("x!", "1"), ("grpc-timeout", "1S"), ("trace-bin", "AA"))
    request = (*INFER, *dropped, ("x-ok", "1"), ("content-length", str(len(TENSOR))))
    for note, expected in (("a", set()), ("\u00e9", {"x-note"}), ("b", set()), ("\t", {"x-note"})):
        message = headers((*request, ("x-note", note)))
        _, replaced = await client.process(message, body(TENSOR, end_of_stream=True))
        common = replaced.request_body.response
        removed = set(common.header_mutation.remove_headers)
        assert removed.isdisjoint(("x-ok", ":path"))
        assert removed >= {name for name, _ in dropped}
        assert removed & {"x-note"} == expected


@pytest.mark.parametrize("whole", [False, True])
async def test_a_response_that_arrives_in_part_is_not_converted(
    client: CalloutClient, whole: bool
) -> None:
    """The client would get the rest after the converted part, perhaps as the next response."""
    request = b'{"instances":[1]}'
    outputs = b'{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[2]}]}'
    *_, response = await client.process(
        headers((INFER[0], (":path", "/v2/models/rest/infer"), INFER[2])),
        body(request, end_of_stream=True),
        answered(("content-type", "application/json")),
        ProcessingRequest(response_body=HttpBody(body=outputs, end_of_stream=whole)),
    )
    if whole:
        converted = response.response_body.response.body_mutation.body
        assert json.loads(converted) == {"predictions": [2.0]}
    else:
        assert problem(response) == (502, "response_too_large")


async def test_a_response_that_does_not_fit_into_the_memory_is_no_fault_of_the_client(
    client: CalloutClient,
) -> None:
    call = RecordedCall()
    stream = client.processor.open(call)
    stream.on_message(headers(INFER).SerializeToString())
    stream.on_message(answered(("content-type", "application/json")).SerializeToString())
    assert isinstance(stream, ExhaustionHandler)
    stream.on_exhausted(too_large=True)
    assert problem(call.responses[-1]) == (502, "response_too_large")
