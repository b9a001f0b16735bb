"""Request headers (metadata) of gRPC calls: valid ones pass, invalid ones are refused."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.decision import Reason, Request
from extproc.decision.request import JoinedHeaders
from tests.extproc.decision.requests import (
    VERSIONS,
    admitted,
    bearer,
    make_policy,
    make_request,
    refused,
)

MALFORMED = (400, Reason.MALFORMED_REQUEST)
GRPC_POLICY = make_policy(
    {
        "m": {
            "versions": {"v1": {**VERSIONS["v1"], "protocol": "grpc"}},
            "methods": ["GET", "POST"],
            "paths": ["/custom.Service"],
        }
    }
)


def grpc_call(
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
        ("x-custom-bin", ""),
        ("x-custom-bin", "YQ"),
        ("x-custom-bin", "YQ=="),
        ("x-bin-custom", "%"),
        ("x.a_b-1", " !~"),
        ("x-empty", ""),
        ("lb-token", "%"),
    ],
)
def test_valid_grpc_headers_are_accepted(name: str, value: str) -> None:
    assert admitted(GRPC_POLICY, grpc_call(name, value))


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
        ("grpc-custom", "x"),
        ("grpc-custom-bin", "YQ"),
        ("lb-cost-bin", "YQ"),
        ("x-custom-bin", "%"),
        ("x-custom-bin", "Y"),
        ("x-custom-bin", "YR"),
        ("x-custom-bin", "_-__"),
        ("x-custom-bin", "Y=Q"),
        ("x-custom-bin", "YQ="),
        ("x-custom-bin", "YQ==="),
        ("x-custom-bin", "YWJj="),
        ("x-custom-bin", "="),
        ("x-custom-bin", "===="),
        ("x-custom-bin", "YQ, YQ"),
        ("x-custom-bin", "YQ YQ"),
        # Names and values that HTTP allows.
        *((name, "1") for name in ("x!", "x`y", "a+b", "~", "x|y", "x'", "x#$%&*^")),
        *(("x-a", value) for value in ("a\tb", "\u00e9", "\x7f")),
        *((name, "\u00e9") for name in ("user-agent", "cookie", "traceparent", "x-request-id")),
    ],
)
def test_grpc_headers_that_some_servers_cannot_parse_are_refused(name: str, value: str) -> None:
    assert refused(GRPC_POLICY, grpc_call(name, value)) == MALFORMED
    assert refused(GRPC_POLICY, grpc_call(name, value, path="/custom.Service/Method")) == MALFORMED


@given(st.binary())
def test_every_base64_value_is_accepted(value: bytes) -> None:
    for text in (b64encode(value), b64encode(value).rstrip(b"=")):
        assert admitted(GRPC_POLICY, grpc_call("x-custom-bin", text.decode()))


def test_a_grpc_call_must_be_a_post() -> None:
    assert refused(GRPC_POLICY, grpc_call(method="GET")) == (405, Reason.METHOD_NOT_ALLOWED)


def test_grpc_headers_are_checked_only_for_grpc_calls_to_a_grpc_server() -> None:
    assert admitted(GRPC_POLICY, make_request("/v2/models/m/infer", **{"grpc-timeout": "soon"}))
    rest_policy = make_policy({"m": {}})
    assert admitted(rest_policy, make_request("/v2/models/m/infer", **{"x-custom-bin": "%"}))


@pytest.mark.parametrize(
    "path", ["/inference.GRPCInferenceService/ModelInfer", "/v2/models/m/infer"]
)
def test_the_headers_of_a_request_to_a_grpc_server_are_bounded(path: str) -> None:
    policy = make_policy(
        {"m": {"versions": {"v1": {**VERSIONS["v1"], "protocol": "grpc"}}}},
        requests={"max_grpc_headers": 4096},
    )
    grpc = {"content_type": "application/grpc"} if "inference" in path else {}

    def request(size: int, **more: str) -> Request:
        """A request with headers of this size, each with 32 bytes of overhead in HTTP/2."""
        headers = {"x_model_name": "m", **grpc, **more}
        rest = size - make_request(path, **headers).header_bytes(()) - len("x-a") - 32
        return make_request(path, x_a="a" * rest, **headers)

    assert admitted(policy, request(3072))
    assert refused(policy, request(3073)) == (431, Reason.HEADERS_TOO_LARGE)
    # Credentials do not reach the server, but the subject does, with %XX for some bytes.
    credentials = bearer(sub="ünal")
    size = 3072 - 3 * len("ünal".encode()) + len("authorization") + len(credentials) + 32
    assert admitted(policy, request(size, authorization=credentials))
    assert refused(policy, request(size + 1, authorization=credentials)) == (
        431, Reason.HEADERS_TOO_LARGE,
    )  # fmt: skip


def test_each_of_several_headers_with_one_name_counts() -> None:
    """Envoy forwards them as they are, so a client could repeat a long name at no cost."""
    call = grpc_call()
    repeated = [("x" * 700, b"1")] * 10
    joined = Request(JoinedHeaders([*call.headers.items(), *repeated]), True, call.now)
    assert joined.header_bytes(()) == call.header_bytes(()) + 10 * (700 + 1 + 32)
    assert refused(GRPC_POLICY, joined) == (431, Reason.HEADERS_TOO_LARGE)
    assert admitted(GRPC_POLICY, Request(JoinedHeaders(call.headers.items()), True, call.now))


def test_the_headers_of_a_request_to_a_rest_server_are_not_bounded_by_the_limit_of_grpc() -> None:
    assert admitted(make_policy({"m": {}}), make_request(x_a="a" * 50_000))
