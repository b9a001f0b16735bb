"""With a real Envoy: requests on a connection that the model server closes while it is idle.

The server takes each second request of a connection, and closes the connection without a response,
as a server whose keep-alive timeout ends at this moment.
"""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.gateway import Gateway, base_config, running
from tests.integration.raw_server import PATIENCE, Exchange, RawServer

REPEATS = 100
BODY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}'
ANSWER = b'{"model_name": "m", "outputs": []}'


class ClosingServer:
    """A script that closes connections at their second request, and counts the requests."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answered: Counter[str] = Counter()
        self.closed = 0

    def __call__(self, exchange: Exchange) -> None:
        exchange.body()
        method = exchange.line.split(" ", 1)[0]
        with self.lock:
            self.answered[method] += 1
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(ANSWER)}\r\n\r\n".encode()
        exchange.send(head if method == "HEAD" else head + ANSWER)
        if exchange.read_line():
            with self.lock:
                self.closed += 1


@pytest.fixture(scope="module")
def gateway(server: RawServer) -> Iterator[Gateway]:
    config = base_config()
    model = {
        "versions": {"v1": {"endpoints": [{"address": server.address}]}},
        "access": {"public": True},
        "methods": ["GET", "HEAD", "PUT", "POST"],
        "extra_paths": ["*"],
        # Failures of the server, as the client sees them, must not hide behind a breaker.
        "breaker": {"enabled": False},
    }
    config["models"] = {
        "m": model,
        "repeatable": model | {"retries": {"retry_on": ["reset"]}},
        "never": model | {"retries": {"attempts": 0}},
        "converted": model
        | {
            "retries": {"retry_on": ["reset"]},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
        },
    }
    with running(config, demo=False) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("model", "method", "expected"),
    [
        ("m", "GET", 200),
        ("m", "HEAD", 200),
        ("m", "POST", 503),
        ("m", "PUT", 503),
        ("repeatable", "GET", 200),
        ("repeatable", "POST", 200),
        ("converted", "POST", 200),
        ("never", "GET", 503),
    ],
)
def test_a_request_on_a_closed_connection_is_repeated_if_it_is_safe(
    gateway: Gateway, server: RawServer, model: str, method: str, expected: int
) -> None:
    script = ClosingServer()
    server.serve(script)
    path = f"/v2/models/{model}/infer"
    statuses: Counter[int] = Counter()
    with gateway.client() as client:
        for _ in range(REPEATS):
            content = BODY if method in ("POST", "PUT") else None
            headers = {"content-type": "application/json"} if content else {}
            statuses[
                client.request(method, path, content=content, headers=headers).status_code
            ] += 1
    if expected == 200:
        assert script.closed > 0
        assert statuses == {200: REPEATS}
    else:
        assert set(statuses) == {200, 503}
    # The server has answered no request twice.
    assert script.answered == {method: statuses[200]}


def test_envoy_closes_idle_connections_before_common_servers_do(
    gateway: Gateway, server: RawServer
) -> None:
    closed = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        if exchange.read_line() == b"":
            closed.set()

    server.serve(script)
    with gateway.client() as client:
        assert client.get("/v2/models/m/x").status_code == 200
    assert closed.wait(PATIENCE)


def test_a_body_that_is_too_large_to_be_repeated_is_no_fault_of_the_client(
    gateway: Gateway, server: RawServer
) -> None:
    script = ClosingServer()
    server.serve(script)
    refused = []
    with gateway.client(headers={"content-type": "application/octet-stream"}) as client:
        for _ in range(REPEATS):
            answer = client.post("/v2/models/repeatable/infer", content=bytes(200_000))
            if answer.status_code != 200:
                refused.append((answer.status_code, answer.json()["reason"]))
    assert set(refused) == {(503, "model_unreachable")}
