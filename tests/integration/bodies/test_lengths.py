"""A converted body has its length, in both directions."""

import json
import queue

import httpx
import pytest

from tests.integration.bodies.servers import ANSWER, INFER, JSON, REQUEST, Wsgi, chunks, top_label
from tests.integration.raw_server import PATIENCE, Exchange, RawServer


@pytest.mark.parametrize("model", ["labelled", "unlabelled"])
@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("measured", [False, True])
def test_a_converted_request_has_its_length(
    server: RawServer, client: httpx.Client, model: str, v1: bool, measured: bool
) -> None:
    received: queue.Queue[bytes] = queue.Queue()

    def script(exchange: Exchange) -> None:
        received.put(exchange.body())
        exchange.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    server.serve(script)
    body = json.dumps({"instances": [1]} if v1 else REQUEST).encode()
    client.post(
        f"/v2/models/{model}/infer",
        content=body if measured else iter((body[:5], body[5:])),
        headers={"content-type": "application/json"},
    )
    assert json.loads(received.get(timeout=PATIENCE))["inputs"]
    assert "transfer-encoding" not in server.request().headers


@pytest.mark.parametrize("measured", [False, True])
def test_a_retried_request_has_its_length(
    server: RawServer, client: httpx.Client, measured: bool
) -> None:
    received: list[bytes] = []

    def script(exchange: Exchange) -> None:
        received.append(exchange.body())
        status = "503 Service Unavailable" if len(received) == 1 else JSON
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(ANSWER)}\r\nconnection: close\r\n\r\n"
        exchange.send(head.encode() + ANSWER)

    server.serve(script)
    response = client.post(
        "/v2/models/retried/infer",
        content=json.dumps(REQUEST).encode() if measured else chunks(),
        headers={"content-type": "application/json"},
    )
    assert top_label(response) == "dog"
    assert [json.loads(body) for body in received] == [REQUEST, REQUEST]


def test_a_wsgi_server_gets_a_converted_body(wsgi: Wsgi, client: httpx.Client) -> None:
    for body in (json.dumps(REQUEST).encode(), chunks()):
        response = client.post(
            "/v2/models/wsgi/infer", content=body, headers={"content-type": "application/json"}
        )
        assert json.loads(wsgi.bodies.get(timeout=PATIENCE)) == REQUEST
        assert top_label(response) == "dog"


def test_a_converted_response_has_its_length(server: RawServer, client: httpx.Client) -> None:
    server.respond(JSON, ANSWER)
    response = client.post(INFER, json=REQUEST)
    assert response.headers["content-length"] == str(len(response.content))
    assert top_label(response) == "dog"


def test_a_converted_grpc_response_has_its_length(client: httpx.Client) -> None:
    response = client.post("/v2/models/tensors/infer", json=REQUEST)
    assert response.headers["content-length"] == str(len(response.content))
    assert top_label(response) == "dog"


def test_the_response_to_head_keeps_its_length(server: RawServer, client: httpx.Client) -> None:
    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        exchange.send(b"content-length: 77\r\nconnection: close\r\n\r\n")

    server.serve(script)
    response = client.request("HEAD", INFER, json=REQUEST)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "77"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_without_a_body_gets_no_length(
    server: RawServer, client: httpx.Client, status: str
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n".encode())
        exchange.send(b"connection: close\r\n\r\n")

    server.serve(script)
    response = client.post(INFER, json=REQUEST)
    assert (response.status_code, response.content) == (int(status[:3]), b"")
    assert "content-length" not in response.headers


@pytest.mark.parametrize("model", ["labelled", "plain"])
def test_the_header_that_carries_a_length_stays_in_the_gateway(
    server: RawServer, client: httpx.Client, model: str
) -> None:
    forged = {"x-sluice-body-length": "3"}
    server.respond(f"{JSON}\r\nx-sluice-body-length: 3", ANSWER)
    response = client.post(f"/v2/models/{model}/infer", json=REQUEST, headers=forged)
    assert response.headers["content-length"] == str(len(response.content))
    assert response.json()["model_name"] == "labelled"
    assert "x-sluice-body-length" not in response.headers.keys() | server.request().headers.keys()
