"""Through a real Envoy: what one client does costs no other client a model."""

import http.client
import json
import socket
import struct
from collections.abc import Callable, Iterator

import grpc
import pytest

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Gateway,
    base_config,
    eventually,
    free_ports,
    reported_requests,
    running,
)

INFER = "/v2/models/digits/infer"
CALL = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
STREAM = "/v2/models/echo/generate_stream?events=10000"
PICTURE = {
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 1], "data": [0] * 1024}]
}


@pytest.fixture(scope="module")
def attacked() -> Iterator[Gateway]:
    """`digits` by gRPC; `echo` by REST, in a second at most; `gone`, whose server is not there."""
    settings = base_config()
    by_grpc, nobody = (f"127.0.0.1:{port}" for port in free_ports(2))
    image = {"width": 32, "height": 32, "color": "GRAY"}
    inputs = [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 1], "image": image}]
    public = {"access": {"public": True}, "breaker": {"window": "60s"}}

    def versions(protocol: str, address: str) -> dict[str, object]:
        return {"v1": {"protocol": protocol, "endpoints": [{"address": address}]}}

    settings["models"]["digits"] = {
        **public,
        "versions": versions("grpc", by_grpc),
        "inputs": inputs,
        "methods": ["GET", "POST"],
        "timeout": "1s",
    }
    settings["models"]["gone"] = {**public, "versions": versions("grpc", nobody), "inputs": inputs}
    settings["models"]["echo"] |= {**public, "timeout": "1s"}
    with running(settings) as gateway:
        yield gateway


def repeat(gateway: Gateway, model: str, attack: Callable[[], None]) -> None:
    """Attack often enough to break a breaker, and wait until it must have noticed."""
    before = reported_requests(gateway, model)
    for _ in range(REQUESTS_TO_OPEN):
        attack()
    eventually(lambda: reported_requests(gateway, model) >= before + REQUESTS_TO_OPEN)


def picture() -> ModelInferRequest:
    request = ModelInferRequest(model_name="digits", raw_input_contents=[bytes(1024)])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 32, 32, 1])
    return request


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def message() -> bytes:
    return framed(picture().SerializeToString())


GRPC = {"content-type": "application/grpc", "x-model-name": "digits"}


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        (INFER, {"content-type": "application/json", "grpc-timeout": "0n"}, None),
        (INFER, {"content-type": "application/json", "grpc-timeout": "soon"}, None),
        (INFER, {"content-type": "application/json", "x-trace-bin": "%"}, None),
        (INFER, GRPC, message()),
        (CALL, GRPC, message()),
        (CALL, {**GRPC, "grpc-timeout": "0n"}, message()),
        (CALL, {**GRPC, "grpc-timeout": "soon"}, message()),
        (CALL, GRPC, framed(picture().SerializeToString() + b"\x2a\x01\xff")),
        (CALL, GRPC, b""),
        (LIVE, GRPC, message()[:-1]),
        (LIVE, GRPC, b"\0\0"),
    ],
)
def test_a_client_cannot_have_a_grpc_server_fail_for_everyone(
    attacked: Gateway, path: str, headers: dict[str, str], body: bytes | None
) -> None:
    with attacked.client(http1=False, http2=True) as client:
        content = json.dumps(PICTURE).encode() if body is None else body

        def attack() -> None:
            client.post(path, content=content, headers=headers)

        repeat(attacked, "digits", attack)
        answers = {client.post(INFER, json=PICTURE).status_code for _ in range(10)}
    assert answers == {200}


@pytest.mark.parametrize(
    ("name", "value"),
    [("grpc-timeout", "soon"), ("grpc-encoding", "snappy"), ("x-trace-bin", "%")],
)
def test_a_client_cannot_spoil_a_header_for_others_on_the_same_connection(
    attacked: Gateway, name: str, value: str
) -> None:
    with attacked.client(http1=False, http2=True) as client:
        for _ in range(REQUESTS_TO_OPEN):
            client.post(CALL, content=message(), headers={**GRPC, name: value})
    with grpc.insecure_channel(attacked.config["listener"]["address"]) as channel:
        infer = channel.unary_unary(
            CALL, ModelInferRequest.SerializeToString, ModelInferResponse.FromString
        )
        named = [("x-model-name", "digits"), ("x-trace-bin", b"a")]
        for _ in range(10):
            answer = infer(picture(), timeout=10, metadata=named, compression=grpc.Compression.Gzip)
            assert answer.model_name == "digits"


def test_a_client_cannot_have_a_grpc_server_reset_what_is_no_post(attacked: Gateway) -> None:
    with attacked.client(http1=False, http2=True) as client:

        def attack() -> None:
            client.request("GET", CALL, content=message(), headers=GRPC)

        repeat(attacked, "digits", attack)
        answers = {client.post(INFER, json=PICTURE).status_code for _ in range(10)}
    assert answers == {200}


def test_a_client_that_takes_its_answers_slowly_breaks_no_version(attacked: Gateway) -> None:
    host, _, port = attacked.config["listener"]["address"].rpartition(":")
    ask = f"GET {STREAM}&interval_ms=1 HTTP/1.1\r\nhost: h\r\n\r\n".encode()
    slow: list[socket.socket] = []

    def attack() -> None:
        slow.append(socket.create_connection((host, int(port))))
        slow[-1].sendall(ask)

    try:
        repeat(attacked, "echo", attack)
        with attacked.client() as client:
            answers = {client.get("/v2/models/echo/x").status_code for _ in range(10)}
    finally:
        for connection in slow:
            connection.close()
    assert answers == {200}


def test_a_body_passes_no_check_as_a_grpc_message(attacked: Gateway) -> None:
    with attacked.client() as client:
        refused = client.post(
            INFER, json=PICTURE, headers={"content-type": "application/grpc+json"}
        )
    assert refused.headers["grpc-status"] == "3"
    assert "unsupported_media_type" in refused.headers["grpc-message"]


def test_a_client_of_rest_reads_a_problem_even_where_the_server_behind_speaks_grpc(
    attacked: Gateway,
) -> None:
    with attacked.client() as client:
        answer = client.post("/v2/models/gone/infer", json=PICTURE)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "model_unreachable"


def test_a_version_out_of_time_is_told_so(attacked: Gateway) -> None:
    with attacked.client() as client:
        answer = client.get("/v2/models/echo/x?delay_ms=3000")
    assert (answer.status_code, answer.json()["reason"]) == (504, "model_timeout")


def test_a_connect_goes_nowhere_and_costs_no_decision(attacked: Gateway) -> None:
    """It has no path, so that limits, which hang on routes, would not hold it back."""
    connection = http.client.HTTPConnection(attacked.config["listener"]["address"], timeout=10)
    connection.request("CONNECT", "model:443")
    answer = connection.getresponse()
    # Envoy's own answer: the callout would have said `unknown_model`.
    assert (answer.status, json.load(answer)["reason"]) == (403, "forbidden")
