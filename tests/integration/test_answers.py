"""Answers of model servers as they are, not as the protocol says: they pass, or count right.

Only the callout converts, so it decides all requests of these models.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Gateway,
    base_config,
    eventually,
    reported_requests,
    running,
)

ANSWERS: dict[str, tuple[int, bytes]] = {
    "nan": (200, b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [3],'
                 b' "data": [NaN, 0.25, 0.5], "parameters": {"a": {"b": 1}}}]}'),
    "null": (200, b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [3],'
                  b' "data": [null, 0.25, 0.5], "parameters": {"a": {"b": 1}}}]}'),
    "unreadable": (200, b"no JSON"),
    "failing": (500, b'{"error": "out of memory"}'),
}  # fmt: skip
"""What the server of each model answers."""


class ModelServer(BaseHTTPRequestHandler):
    """Answers every request to a model with the model's answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, body = ANSWERS[self.path.split("/")[3]]
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = base_config()
    address = f"127.0.0.1:{server.server_port}"
    model = {
        "versions": {"v1": {"endpoints": [{"address": address}]}},
        "access": {"public": True},
        "breaker": {"window": "60s", "min_volume": 20, "probe_interval": "60s"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "labels": ["cat", "dog", "owl"], "top_k": 3}],
    }
    settings["models"] = {name: dict(model) for name in ANSWERS}
    try:
        with running(settings, demo=False) as started:
            yield started
    finally:
        server.shutdown()


def responses(gateway: Gateway, model: str, body: dict[str, Any]) -> list[httpx.Response]:
    """The responses to so many requests that failures would open the breaker, and to ten more."""
    before = reported_requests(gateway, model)
    with gateway.client() as client:

        def send() -> httpx.Response:
            return client.post(f"/v2/models/{model}/infer", json=body)

        sent = [send() for _ in range(REQUESTS_TO_OPEN)]
        eventually(lambda: reported_requests(gateway, model) >= before + REQUESTS_TO_OPEN)
        return sent + [send() for _ in range(10)]


V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
V1 = {"instances": [1]}


@pytest.mark.parametrize("model", ["nan", "null"])
def test_an_overflowed_softmax_passes_as_null_and_opens_no_breaker(
    gateway: Gateway, model: str
) -> None:
    for response in responses(gateway, model, V2):
        assert response.status_code == 200, response.text
        (output,) = response.json()["outputs"]
        assert output["data"] == [None, 0.25, 0.5]
        assert [entry["label"] for entry in output["top_k"][0]] == ["owl", "dog"]
        assert output["parameters"] == {"a": {"b": 1}}
    assert responses(gateway, model, V1)[-1].json() == {"predictions": [None, 0.25, 0.5]}


def test_a_response_that_the_gateway_cannot_read_opens_no_breaker(gateway: Gateway) -> None:
    reasons = {r.headers["x-sluice-reason"] for r in responses(gateway, "unreadable", V1)}
    assert reasons == {"bad_model_response"}


def test_an_error_of_the_server_opens_the_breaker(gateway: Gateway) -> None:
    sent = responses(gateway, "failing", V1)
    assert json.loads(sent[0].content) == {"error": "out of memory"}
    assert [r.headers["x-sluice-reason"] for r in sent[-10:]].count("breaker_open") >= 9
