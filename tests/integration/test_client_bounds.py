"""Envoy bounds what clients can hold: memory, connections, and the admin interface."""

import json
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from tests import plain_http
from tests.extproc.transport.certificates import CertificateAuthority
from tests.integration.gateway import Gateway, base_config, eventually, running

MAX_CONNECTIONS = 150
REQUEST = b"GET /v2/models/echo/x HTTP/1.1\r\nhost: h\r\n\r\n"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
"""The connection preface of a client: the magic and an empty SETTINGS frame (RFC 9113)."""


def connected(gateway: Gateway, first: bytes = b"") -> socket.socket:
    host, _, port = gateway.config["listener"]["address"].rpartition(":")
    connection = socket.create_connection((host, int(port)), 30)
    connection.sendall(first)
    return connection


def response_to(connection: socket.socket, request: bytes) -> tuple[HTTPResponse, bytes]:
    """Send the end of a request. Returns the response, which can come in pieces, and its body."""
    connection.sendall(request)
    response = HTTPResponse(connection)
    response.begin()
    return response, response.read()


def status(connection: socket.socket, request: bytes) -> int:
    return response_to(connection, request)[0].status


def wait_until_closed(connection: socket.socket) -> None:
    """Waits for the end of the connection. Fails with a timeout if it stays open."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass


def is_closed(connection: socket.socket) -> bool:
    """Wait a moment, and return whether the connection has ended."""
    connection.settimeout(0.5)
    try:
        return connection.recv(1 << 16) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def strict() -> Iterator[Gateway]:
    """A gateway with short timeouts for connections, and few of them."""
    config = base_config()
    config["listener"] |= {"handshake_timeout": "1s", "idle_timeout": "3s"}
    config["envoy"] |= {"max_connections": MAX_CONNECTIONS}
    config["models"]["echo"]["access"] = {"public": True}
    with running(config) as gateway:
        yield gateway


@pytest.fixture
def small() -> Iterator[Gateway]:
    """A gateway with a small heap for Envoy. The server of the model `stalled` reads nothing."""
    config = base_config()
    config["listener"] |= {"stream_buffer_limit": "4MiB", "request_headers_timeout": "2m"}
    config["envoy"]["max_heap"] = "64MiB"
    public = {"access": {"public": True}}
    config["models"]["echo"] |= public
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        versions = {"v1": {"endpoints": [{"address": address}]}}
        stalled = {"versions": versions, "max_body": "1GiB", "idle_timeout": "15s"}
        config["models"]["stalled"] = public | stalled
        with running(config) as gateway:
            yield gateway


def test_operators_reach_envoy_when_clients_have_opened_all_connections(strict: Gateway) -> None:
    def refused_connections() -> int:
        query = {"filter": "downstream_global_cx_overflow", "format": "json"}
        stats = plain_http.get(
            f"http://{strict.config['envoy']['admin']}/stats", params=query
        ).json()
        return sum(stat["value"] for stat in stats["stats"])

    with ExitStack() as connections:
        for _ in range(MAX_CONNECTIONS + 10):
            connections.enter_context(connected(strict))
        eventually(lambda: refused_connections() > 0)


@pytest.mark.parametrize("first", [b"", b"G", b"GET /v2/models", HTTP2_PREFACE[:10]])
def test_a_connection_that_sends_no_first_line_is_closed_before_others(
    strict: Gateway, first: bytes
) -> None:
    with connected(strict) as spoken, connected(strict, first) as silent:
        while not is_closed(silent):
            assert status(spoken, REQUEST) == 200


@pytest.mark.parametrize("first", [REQUEST, HTTP2_PREFACE])
def test_a_connection_without_requests_is_closed_after_the_idle_timeout(
    strict: Gateway, first: bytes
) -> None:
    with connected(strict, first) as connection:
        wait_until_closed(connection)


def test_a_client_that_does_not_finish_the_tls_handshake_is_closed(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    certificate, key = authority.issue("gateway")
    config = base_config()
    config["models"]["echo"]["access"] = {"public": True}
    config["listener"] |= {
        "handshake_timeout": "1s",
        "tls": {"certificate": str(certificate), "private_key": str(key)},
    }
    with running(config) as gateway:
        context = ssl.create_default_context(cafile=authority.path)
        raw = connected(gateway)
        with (
            context.wrap_socket(raw, server_hostname="127.0.0.1") as spoken,
            connected(gateway) as silent,
        ):
            assert status(spoken, REQUEST) == 200
            wait_until_closed(silent)
            assert status(spoken, REQUEST) == 200


def test_near_the_maximum_heap_requests_are_refused_until_memory_is_free(small: Gateway) -> None:
    def pressure(name: str) -> int:
        query = {"filter": f"overload.*{name}", "format": "json"}
        stats = plain_http.get(
            f"http://{small.config['envoy']['admin']}/stats", params=query
        ).json()
        return sum(stat["value"] for stat in stats["stats"])

    def overloaded() -> bool:
        uploads.enter_context(upload(small))
        return pressure("stop_accepting_requests.active") > 0

    # Envoy would copy this request id into the JSON if it had not replaced the id.
    begun, end = REQUEST[:-2] + b'x-request-id: "}\r\n', b"\r\n"
    # A new connection would be closed: the heap may grow beyond the share at which requests end.
    with connected(small, begun) as connection, ExitStack() as uploads:
        eventually(overloaded)
        response, body = response_to(connection, end)
    assert response.status == 503
    assert response.getheader("content-type") == "application/problem+json"
    assert json.loads(body)["reason"] == "gateway_overloaded"

    def admitted() -> bool:
        try:
            return plain_http.get(f"{small.url}/v2/models/echo/x").status_code == 200
        except httpx.TransportError:
            return False

    # While the server does not read, Envoy does not read either, and does not see that the clients
    # have gone. The idle timeout of the streams frees their memory.
    eventually(admitted)
    assert pressure("fixed_heap.pressure") > 0


def upload(gateway: Gateway) -> socket.socket:
    """A connection with a request whose body fills all buffers between client and model."""
    head = b"POST /v2/models/stalled/infer HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n"
    connection = connected(gateway, head + b"content-type: application/octet-stream\r\n\r\n")
    connection.setblocking(False)
    block = bytes(1 << 16)
    while select.select([], [connection], [], 0.02)[1]:
        try:
            connection.send(block)
        except OSError:
            break
    return connection


@pytest.mark.parametrize(
    "headers",
    [
        {f"x-h{number}": "v" for number in range(91)},  # too many with those of the gateway
        {f"x-h{number}": "v" for number in range(110)},
        {"x-h": "v" * 61_200},  # too large with those of the gateway
        {"x-h": "v" * 65_000},
    ],
)
def test_too_many_or_too_large_headers_are_the_fault_of_the_client(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    with gateway.client() as client:
        assert client.get("/v2/models/echo/x").status_code == 200
        response = client.get("/v2/models/echo/x", headers=headers)
    assert (response.status_code, response.json()["reason"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "path", ["/ready", "/stats?filter=overload", "/stats/prometheus?usedonly", "/clusters",
             "/config_dump?resource=dynamic_listeners", "/listeners", "/server_info"],
)  # fmt: skip
def test_the_admin_interface_serves_what_operators_read(gateway: Gateway, path: str) -> None:
    assert plain_http.get(f"http://{gateway.config['envoy']['admin']}{path}").status_code == 200


@pytest.mark.parametrize(
    "path", ["/quitquitquit", "/drain_listeners", "/drain_listeners?graceful", "/logging?level=off",
             "/runtime_modify?a=b", "/cpuprofiler?enable=y", "/heapprofiler?enable=y",
             "/healthcheck/fail", "/reset_counters", "/stats/recentlookups/enable",
             "/contention", "/", "/help", "/ready/../quitquitquit", "//quitquitquit"],
)  # fmt: skip
def test_the_admin_interface_changes_nothing(gateway: Gateway, path: str) -> None:
    for method in ("GET", "POST"):
        host, _, port = gateway.config["envoy"]["admin"].rpartition(":")
        with socket.create_connection((host, int(port)), 10) as admin:
            admin.sendall(f"{method} {path} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
            assert admin.recv(1 << 16).split(b" ", 2)[1] in (b"403", b"404")
