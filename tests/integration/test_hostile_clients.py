"""A client cannot make a model unavailable to other clients.

The callout decides all calls to gRPC servers. The rest is the same if Envoy admits requests alone.
"""

import http.client
import json
import socket
import struct
from collections.abc import Callable, Iterator

import grpc
import pytest
from h2.connection import H2Connection
from h2.events import Event, ResponseReceived, StreamEnded

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Gateway,
    base_config,
    decided_by_placement,
    eventually,
    free_ports,
    reported_requests,
    running,
)

INFER = "/v2/models/digits/infer"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
SERVER_LIVE = "/inference.GRPCInferenceService/ServerLive"
STREAM = "/v2/models/echo/generate_stream?events=10000&interval_ms=1"
IMAGE = {
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 1], "data": [0] * 1024}]
}


@pytest.fixture(scope="module")
def attacked(placement: str) -> Iterator[Gateway]:
    """A gateway with `digits` (gRPC) and `echo` (REST), and with `gone`, whose server is absent.

    `digits` and `echo` have a timeout of a second.
    """
    settings = base_config(placement)
    digits, gone = (f"127.0.0.1:{port}" for port in free_ports(2))
    image = {"width": 32, "height": 32, "color": "GRAY"}
    inputs = [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 1], "image": image}]
    public = {"access": {"public": True}, "breaker": {"window": "60s"}}

    def versions(protocol: str, address: str) -> dict[str, object]:
        return {"v1": {"protocol": protocol, "endpoints": [{"address": address}]}}

    settings["models"]["digits"] = {
        **public,
        "versions": versions("grpc", digits),
        "inputs": inputs,
        "methods": ["GET", "POST"],
        "timeout": "1s",
    }
    settings["models"]["gone"] = {**public, "versions": versions("grpc", gone), "inputs": inputs}
    settings["models"]["echo"] |= {**public, "timeout": "1s"}
    with running(settings) as gateway:
        yield gateway


def repeat(gateway: Gateway, model: str, attack: Callable[[], None]) -> None:
    """Attacks often enough to open the breaker, and waits until Envoy has reported all requests."""
    before = reported_requests(gateway, model)
    for _ in range(REQUESTS_TO_OPEN):
        attack()
    eventually(lambda: reported_requests(gateway, model) >= before + REQUESTS_TO_OPEN)


def infer_request() -> ModelInferRequest:
    request = ModelInferRequest(model_name="digits", raw_input_contents=[bytes(1024)])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 32, 32, 1])
    return request


def grpc_frame(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def infer_frame() -> bytes:
    return grpc_frame(infer_request().SerializeToString())


GRPC = {"content-type": "application/grpc", "x-model-name": "digits"}


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        (INFER, {"content-type": "application/json", "grpc-timeout": "0n"}, None),
        (INFER, {"content-type": "application/json", "grpc-timeout": "soon"}, None),
        (INFER, {"content-type": "application/json", "x-trace-bin": "%"}, None),
        (INFER, {"content-type": "application/json", "x!": "1", "a+b": "1"}, None),
        (INFER, {"content-type": "application/json", "x-a": "\u00e9", "x-b": "a\tb"}, None),
        (INFER, GRPC, infer_frame()),
        (MODEL_INFER, {**GRPC, "x!": "1"}, infer_frame()),
        (MODEL_INFER, {**GRPC, "x-a": "\u00e9"}, infer_frame()),
        (MODEL_INFER, GRPC, infer_frame()),
        (MODEL_INFER, {**GRPC, "grpc-timeout": "0n"}, infer_frame()),
        (MODEL_INFER, {**GRPC, "grpc-timeout": "soon"}, infer_frame()),
        (MODEL_INFER, GRPC, grpc_frame(infer_request().SerializeToString() + b"\x2a\x01\xff")),
        (MODEL_INFER, GRPC, b""),
        (SERVER_LIVE, GRPC, infer_frame()[:-1]),
        (SERVER_LIVE, GRPC, b"\0\0"),
    ],
)
def test_an_invalid_call_does_not_open_the_breaker_of_a_grpc_server(
    attacked: Gateway, path: str, headers: dict[str, str], body: bytes | None
) -> None:
    with attacked.client(http1=False, http2=True) as client:
        content = json.dumps(IMAGE).encode() if body is None else body
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

        def attack() -> None:
            client.post(path, content=content, headers=encoded)

        repeat(attacked, "digits", attack)
        statuses = {client.post(INFER, json=IMAGE).status_code for _ in range(10)}
    assert statuses == {200}


def test_a_path_that_is_not_ascii_does_not_reach_a_server(attacked: Gateway) -> None:
    """The gRPC server of grpcio would exit."""
    target = {"target": MODEL_INFER.encode() + b"?\xff"}
    with attacked.client(http1=False, http2=True) as client:
        response = client.post(MODEL_INFER, content=infer_frame(), headers=GRPC, extensions=target)
        assert response.headers["x-sluice-reason"] == "malformed_request"
        assert client.post(INFER, json=IMAGE).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [("grpc-timeout", "soon"), ("grpc-encoding", "snappy"), ("x-trace-bin", "%")],
)
def test_an_invalid_header_does_not_affect_other_calls_on_the_upstream_connection(
    attacked: Gateway, name: str, value: str
) -> None:
    with attacked.client(http1=False, http2=True) as client:
        for _ in range(REQUESTS_TO_OPEN):
            client.post(MODEL_INFER, content=infer_frame(), headers={**GRPC, name: value})
    with grpc.insecure_channel(attacked.config["listener"]["address"]) as channel:
        infer = channel.unary_unary(
            MODEL_INFER, ModelInferRequest.SerializeToString, ModelInferResponse.FromString
        )
        metadata = [("x-model-name", "digits"), ("x-trace-bin", b"a")]
        for _ in range(10):
            response = infer(
                infer_request(), timeout=10, metadata=metadata, compression=grpc.Compression.Gzip
            )
            assert response.model_name == "digits"


def test_trailers_of_a_request_do_not_reach_a_grpc_server(attacked: Gateway) -> None:
    """A gRPC server would read them as headers: see the test above."""
    body = json.dumps(IMAGE).encode()
    head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", INFER),
        (":authority", "h"),
        ("content-type", "application/json"),
        # With a declared length, the callout converts the body before it knows of trailers.
        ("content-length", str(len(body))),
    ]
    connection = H2Connection()
    connection.initiate_connection()
    connection.send_headers(1, head)
    connection.send_data(1, body)
    connection.send_headers(1, [("grpc-timeout", "soon")], end_stream=True)
    host, _, port = attacked.config["listener"]["address"].rpartition(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(connection.data_to_send())
        events: list[Event] = []
        while not any(isinstance(event, StreamEnded) for event in events):
            events += connection.receive_data(client.recv(1 << 16))
    (response,) = (event for event in events if isinstance(event, ResponseReceived))
    assert (b":status", b"200") in response.headers


def test_a_grpc_call_by_get_does_not_open_the_breaker(attacked: Gateway) -> None:
    with attacked.client(http1=False, http2=True) as client:

        def attack() -> None:
            client.request("GET", MODEL_INFER, content=infer_frame(), headers=GRPC)

        repeat(attacked, "digits", attack)
        statuses = {client.post(INFER, json=IMAGE).status_code for _ in range(10)}
    assert statuses == {200}


def test_clients_that_read_responses_slowly_do_not_open_the_breaker(attacked: Gateway) -> None:
    host, _, port = attacked.config["listener"]["address"].rpartition(":")
    request = f"POST {STREAM} HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    connections: list[socket.socket] = []

    def attack() -> None:
        connections.append(socket.create_connection((host, int(port))))
        connections[-1].sendall(request)

    try:
        with decided_by_placement(attacked), attacked.client() as client:
            repeat(attacked, "echo", attack)
            statuses = {
                client.post("/v2/models/echo/infer", json={}).status_code for _ in range(10)
            }
    finally:
        for connection in connections:
            connection.close()
    assert statuses == {200}


def test_a_content_type_of_another_grpc_encoding_is_refused(attacked: Gateway) -> None:
    with attacked.client() as client:
        refused = client.post(INFER, json=IMAGE, headers={"content-type": "application/grpc+json"})
    assert refused.headers["grpc-status"] == "3"
    assert refused.headers["x-sluice-reason"] == "unsupported_media_type"


def test_a_rest_client_of_a_grpc_model_gets_a_problem_if_the_server_is_unreachable(
    attacked: Gateway,
) -> None:
    with attacked.client() as client:
        response = client.post("/v2/models/gone/infer", json=IMAGE)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["reason"] == "model_unreachable"


def test_a_model_timeout_is_reported_as_its_own_reason(attacked: Gateway) -> None:
    path = "/v2/models/echo/infer?delay_ms=3000"
    with attacked.client() as client, decided_by_placement(attacked):
        response = client.post(path, json={})
    assert (response.status_code, response.json()["reason"]) == (504, "model_timeout")


def test_a_model_timeout_of_a_client_of_grpc_web_is_reported_as_its_own_reason(
    attacked: Gateway,
) -> None:
    headers = {"content-type": "application/grpc-web"}
    with attacked.client() as client:
        response = client.get("/v2/models/echo/x?delay_ms=3000", headers=headers)
    assert (response.status_code, response.json()["reason"]) == (504, "model_timeout")


def test_envoy_refuses_connect_without_a_decision(attacked: Gateway) -> None:
    """A CONNECT request has no path, so no route and no rate limit of a route would match it."""
    connection = http.client.HTTPConnection(attacked.config["listener"]["address"], timeout=10)
    connection.request("CONNECT", "model:443")
    response = connection.getresponse()
    # The reason of Envoy's local reply. The callout would have refused with `unknown_model`.
    assert (response.status, json.load(response)["reason"]) == (403, "forbidden")
