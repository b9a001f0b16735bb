"""Tests of the check of gRPC request headers."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.decision import Reason, Request
from tests.extproc.decision.requests import VERSIONS, admitted, make_policy, make_request, refused

MALFORMED = (400, Reason.MALFORMED_REQUEST)
GRPC_POLICY = make_policy(
    {
        "m": {
            "versions": {"v1": {**VERSIONS["v1"], "protocol": "grpc"}},
            "methods": ["GET", "POST"],
            "paths": ["/own.Service"],
        }
    }
)


def call(
    name: str = "a",
    value: str = "",
    *,
    path: str = "/inference.GRPCInferenceService/ModelInfer",
    method: str = "POST",
) -> Request:
    headers = {"x-model-name": "m", "content-type": "application/grpc", name: value}
    return make_request(path, method, **headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc-timeout", "1S"),
        ("grpc-timeout", "99999999n"),
        ("grpc-timeout", "0m"),
        ("grpc-encoding", "identity"),
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "identity, deflate,gzip"),
        ("grpc-previous-rpc-attempts", "2"),
        ("grpc-trace-bin", "AAAB"),
        ("x-own-bin", ""),
        ("x-own-bin", "YQ"),
        ("x-own-bin", "YQ=="),
        ("x-bin-own", "%"),
        ("lb-token", "%"),
    ],
)
def test_headers_that_grpc_clients_send_pass(name: str, value: str) -> None:
    assert admitted(GRPC_POLICY, call(name, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc-timeout", ""),
        ("grpc-timeout", "soon"),
        ("grpc-timeout", "1s"),
        ("grpc-timeout", "1 S"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "123456789S"),
        ("grpc-timeout", "1S, 1S"),
        ("grpc-timeout", "1S\n"),
        ("grpc-timeout", "\u0661S"),
        ("grpc-encoding", ""),
        ("grpc-encoding", "snappy"),
        ("grpc-encoding", "gzip, gzip"),
        ("grpc-accept-encoding", "\x7f"),
        ("grpc-previous-rpc-attempts", "99999999999"),
        ("grpc-previous-rpc-attempts", "x"),
        ("grpc-trace-bin", "%"),
        ("grpc-status", "0"),
        ("grpc-own", "x"),
        ("grpc-own-bin", "YQ"),
        ("lb-cost-bin", "YQ"),
        ("x-own-bin", "%"),
        ("x-own-bin", "Y"),
        ("x-own-bin", "YR"),
        ("x-own-bin", "_-__"),
        ("x-own-bin", "Y=Q"),
        ("x-own-bin", "YQ="),
        ("x-own-bin", "YQ==="),
        ("x-own-bin", "YWJj="),
        ("x-own-bin", "="),
        ("x-own-bin", "===="),
        ("x-own-bin", "YQ, YQ"),
        ("x-own-bin", "YQ YQ"),
    ],
)
def test_headers_that_some_server_cannot_parse_are_refused(name: str, value: str) -> None:
    assert refused(GRPC_POLICY, call(name, value)) == MALFORMED
    assert refused(GRPC_POLICY, call(name, value, path="/own.Service/Method")) == MALFORMED


@given(st.binary())
def test_every_base64_value_passes(value: bytes) -> None:
    for text in (b64encode(value), b64encode(value).rstrip(b"=")):
        assert admitted(GRPC_POLICY, call("x-own-bin", text.decode()))


def test_a_grpc_call_must_be_a_post() -> None:
    assert refused(GRPC_POLICY, call(method="GET")) == (405, Reason.METHOD_NOT_ALLOWED)


def test_grpc_headers_are_checked_only_for_grpc_calls_to_a_grpc_server() -> None:
    assert admitted(GRPC_POLICY, make_request("/v2/models/m/infer", **{"grpc-timeout": "soon"}))
    rest_policy = make_policy({"m": {}})
    assert admitted(rest_policy, make_request("/v2/models/m/infer", **{"x-own-bin": "%"}))
