"""With a real Envoy: headers that only the gateway may set never come from a model server."""

from collections.abc import Iterator

import httpx
import pytest

from tests import plain_http
from tests.integration.gateway import Config, Gateway, base_config, free_ports, running
from tests.integration.raw_server import Exchange, RawServer

FORGED = {
    "x-sluice-reason": "forged",
    "x-sluice-limit": "forged",
    "x-sluice-failed-handshake": "true",
    "x-sluice-other": "forged",
    "ratelimit": "forged",
    "ratelimit-policy": "forged",
}
HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}
ACCEPTED = "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket"


def model(server: RawServer, placement: str) -> Config:
    return {
        "versions": {"v1": {"endpoints": [{"address": server.address}]}},
        "access": {"public": True},
        "methods": ["GET", "POST"],
        "extra_paths": ["*"],
        "websocket": True,
        "placement": placement,
    }


@pytest.fixture(scope="module")
def gateway(server: RawServer) -> Iterator[Gateway]:
    config = base_config()
    gone = {"address": f"127.0.0.1:{free_ports(1)[0]}"}
    config["models"] = {
        "auto": model(server, "auto"),
        "callout": model(server, "callout"),
        "limited": model(server, "auto"),
        "gone": {**model(server, "auto"), "versions": {"v1": {"endpoints": [gone]}}},
    }
    only = [{"part": "model", "values": ["limited"]}]
    config["limits"]["rules"] = [{"name": "rule", "match": only, "rate": 1000, "burst": 1000}]
    with running(config, demo=False) as started:
        yield started


def respond(server: RawServer, head: str, end: str = "content-length: 0\r\n\r\n") -> None:
    """The server sends these header lines, those of `FORGED`, and `end`."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in FORGED.items())

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(f"HTTP/1.1 {head}\r\nx-own: 1\r\n{lines}{end}".encode())

    server.serve(script)


def internal_headers(response: httpx.Response) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.startswith(("x-sluice-", "ratelimit"))
    ]


@pytest.mark.parametrize("name", ["auto", "callout"])
@pytest.mark.parametrize("head", ["200 OK", "301 Moved\r\nlocation: /", "404 No", ACCEPTED])
def test_a_handshake_gets_no_internal_header_of_the_model_server(
    gateway: Gateway, server: RawServer, name: str, head: str
) -> None:
    respond(server, head)
    response = plain_http.get(f"{gateway.url}/v2/models/{name}/ws", headers=HANDSHAKE)
    assert response.status_code == int(head[:3])
    assert response.headers["x-own"] == "1"
    assert internal_headers(response) == [("x-sluice-reason", "stable")]


@pytest.mark.parametrize("name", ["auto", "callout"])
@pytest.mark.parametrize("head", ["200 OK", "301 Moved\r\nlocation: /", "404 No", "503 No"])
def test_a_request_gets_no_internal_header_of_the_model_server(
    gateway: Gateway, server: RawServer, client: httpx.Client, name: str, head: str
) -> None:
    respond(server, head)
    response = client.post(f"/v2/models/{name}/infer", json={})
    assert response.status_code == int(head[:3])
    assert response.headers["x-own"] == "1"
    assert internal_headers(response) == [("x-sluice-reason", "stable")]


def test_informational_headers_of_the_model_server_are_dropped(
    gateway: Gateway, server: RawServer, client: httpx.Client
) -> None:
    respond(server, "103 Early Hints", "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    response = client.post("/v2/models/auto/infer", json={})
    assert response.text == "ok"
    assert "x-own" not in response.headers
    assert internal_headers(response) == [("x-sluice-reason", "stable")]


def test_a_failed_handshake_keeps_the_headers_of_the_gateway(
    gateway: Gateway, server: RawServer
) -> None:
    respond(server, "200 OK")
    response = plain_http.get(f"{gateway.url}/v2/models/limited/ws", headers=HANDSHAKE)
    names = [name for name, _ in internal_headers(response)]
    assert sorted(names) == ["ratelimit", "ratelimit-policy", "x-sluice-reason"]
    assert response.headers["ratelimit-policy"].startswith('"rule"')


def test_a_handshake_that_reaches_no_model_server_has_the_reason(gateway: Gateway) -> None:
    response = plain_http.get(f"{gateway.url}/v2/models/gone/ws", headers=HANDSHAKE)
    assert response.status_code == 503
    assert internal_headers(response) == [("x-sluice-reason", "model_unreachable")]
