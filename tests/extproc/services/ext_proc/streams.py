"""Models, messages of Envoy and readers of responses, for the tests of ext_proc streams."""

import json
from typing import Any

from extproc.rpc import StatusCode
from protos.ext_proc_pb2 import (
    ProcessingRequest,
    ProcessingResponse,
)
from sluice.config import PolicyDocument
from sluice.contract.request_end import RequestEnd
from tests.extproc.decision.requests import VERSIONS, document
from tests.extproc.services.callout import headers, written

POST = ((":method", "POST"), (":path", "/v2/models/m/infer"), ("content-type", "application/json"))
DECLARED = (*POST, ("content-length", "2"))
PRIVATE = ((":method", "POST"), (":path", "/v2/models/private/infer"))

GRPC_INFER = (
    (":method", "POST"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    ("x-model-name", "g"),
    ("content-type", "application/grpc"),
)

INFER = (
    (":method", "POST"),
    (":path", "/v2/models/g/infer"),
    ("content-type", "application/json"),
)

TENSOR = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}'


def models(**settings: Any) -> PolicyDocument:
    grpc_versions = {"v1": {**VERSIONS["v1"], "protocol": "grpc"}}
    return document(
        {
            "m": {"websocket": True, "max_body": 10, "canaries": [{"version": "v2"}]},
            "private": {"access": {}},
            "g": {"versions": grpc_versions, "paths": ["/custom.Service"], "max_body": 99},
            "rest": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]},
        },
        **settings,
    )


def problem(response: ProcessingResponse) -> tuple[int, str]:
    """Status and reason of a refusal, whose body must be a problem document (RFC 9457)."""
    refusal = response.immediate_response
    found = json.loads(refusal.body)
    assert set(found) >= {"type", "title", "status", "detail", "error", "reason"}
    assert found["status"] == refusal.status.code
    assert written(refusal.headers.set_headers)["content-type"] == "application/problem+json"
    return found["status"], found["reason"]


def grpc_refusal(response: ProcessingResponse) -> tuple[StatusCode, str]:
    """gRPC status and reason of a refusal of a gRPC call, whose body must be plain text."""
    refusal = response.immediate_response
    assert b"{" not in refusal.body
    assert "content-type" not in written(refusal.headers.set_headers)
    end = RequestEnd.parse(refusal.details)
    assert end is not None
    return StatusCode(refusal.grpc_status.status), end.reason


def answered(*pairs: tuple[str, str], end_of_stream: bool = False) -> ProcessingRequest:
    """The headers of a model server's response with status 200."""
    message = headers(((":status", "200"), *pairs), end_of_stream=end_of_stream)
    return ProcessingRequest(response_headers=message.request_headers)


def mutation(response: ProcessingResponse) -> tuple[dict[str, str], list[str]]:
    """Headers that are set and removed on an admitted request."""
    common = response.request_headers.response
    assert response.WhichOneof("response") == "request_headers"
    assert common.clear_route_cache
    assert all(option.header.raw_value for option in common.header_mutation.set_headers)
    return written(common.header_mutation.set_headers), list(common.header_mutation.remove_headers)
