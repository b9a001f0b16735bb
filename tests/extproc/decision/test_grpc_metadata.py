"""What a gRPC call says in its headers can be read by every server of gRPC."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.decision import Reason, Request
from tests.extproc.decision.requests import VERSIONS, admitted, policy, refused, request

MALFORMED = (400, Reason.MALFORMED_REQUEST)
BY_GRPC = policy(
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
    given = {"x-model-name": "m", "content-type": "application/grpc", name: value}
    return request(path, method, **given)


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
def test_what_a_client_of_grpc_writes_passes(name: str, value: str) -> None:
    assert admitted(BY_GRPC, call(name, value))


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
def test_what_some_server_could_not_read_is_refused(name: str, value: str) -> None:
    assert refused(BY_GRPC, call(name, value)) == MALFORMED
    assert refused(BY_GRPC, call(name, value, path="/own.Service/Method")) == MALFORMED


@given(st.binary())
def test_any_value_in_base64_passes(value: bytes) -> None:
    for text in (b64encode(value), b64encode(value).rstrip(b"=")):
        assert admitted(BY_GRPC, call("x-own-bin", text.decode()))


def test_a_call_is_a_post_whatever_the_model_takes() -> None:
    assert refused(BY_GRPC, call(method="GET")) == (405, Reason.METHOD_NOT_ALLOWED)


def test_these_headers_mean_nothing_where_no_call_goes_on_as_it_is() -> None:
    assert admitted(BY_GRPC, request("/v2/models/m/infer", **{"grpc-timeout": "soon"}))
    by_rest = policy({"m": {}})
    assert admitted(by_rest, request("/v2/models/m/infer", **{"x-own-bin": "%"}))
