"""With a real Envoy: a failure that a client brings about does not count against the version.

The same failures count whether Envoy admits requests alone or the callout decides all.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Gateway,
    base_config,
    decided_by_placement,
    eventually,
    reported_requests,
    running,
)
from tests.integration.scripted_server import scripted_server


class Client:
    """A client of one model that decides which bytes it sends, and when it reads."""

    def __init__(self, gateway: Gateway, model: str) -> None:
        host, _, port = gateway.config["listener"]["address"].rpartition(":")
        self._address = host, int(port)
        self._model = model

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        connection.connect(self._address)
        return connection

    def head(self, script: str, *fields: str, method: str = "POST") -> bytes:
        lines = (f"{method} /{self._model}/{script} HTTP/1.1", "host: h", *fields, "", "")
        return "\r\n".join(lines).encode()

    def post(self, script: str, *parts: bytes, declared: int) -> bytes:
        """Sends a body in parts: the second when the response begins. Returns the response."""
        fields = (f"content-length: {declared}", "connection: close")
        with self.connect() as connection:
            connection.sendall(self.head(script, *fields) + parts[0])
            received = connection.recv(1 << 16)
            for part in parts[1:]:
                connection.sendall(part)
            while chunk := connection.recv(1 << 16):
                received += chunk
        return received


Attack = Callable[[Client], bytes]


def half(script: str) -> Attack:
    """Sends a part of the request only."""
    return lambda client: client.post(script, b"half", declared=10)


def whole(script: str) -> Attack:
    return lambda client: client.post(script, b"body", declared=4)


def rest_after_the_error(client: Client) -> bytes:
    return client.post("read-timeout-slow-error", b"half", b"rest", declared=8)


def websocket(client: Client) -> bytes:
    fields = "upgrade: websocket", "connection: upgrade"
    with client.connect() as connection:
        connection.sendall(client.head("websocket", *fields, method="GET"))
        received = connection.recv(1 << 16)
        connection.sendall(b"frame")
        while chunk := connection.recv(1 << 16):
            received += chunk
    return received


def long_redirect(client: Client) -> bytes:
    return client.post("redirect?" + '"' * 30_000, b"body", declared=4)


ATTACKS: dict[str, Attack] = {
    "websocket": websocket,
    "half-sent-then-closed": half("read-timeout-close"),
    "half-sent-then-error": half("read-timeout-error"),
    "half-sent-then-idle": half("hang"),
    "rest-after-the-error": rest_after_the_error,
    "long-redirect": long_redirect,
}

FAILURES: dict[str, Attack] = {
    "error": whole("error"),
    "close": whole("close"),
    "close-in-response": whole("close-in-response"),
    "hang": whole("hang"),
    "hang-in-response": whole("hang-in-response"),
}

RETRIED, SLOW = "retried", "slow"


@pytest.fixture(scope="module")
def scripted(placement: str) -> Iterator[Gateway]:
    """A gateway with a model for each test. One scripted server serves all models."""
    with scripted_server() as address:
        settings = base_config(placement)
        model = {
            "versions": {"v1": {"endpoints": [{"address": address}]}},
            "access": {"public": True},
            "content_types": ["*/*"],
            "websocket": True,
            "timeout": "5s",
            "idle_timeout": "500ms",
            "breaker": {"window": "60s", "min_volume": 20, "probe_interval": "60s"},
        }
        settings["models"] = {
            name: {**model, "paths": [f"/{name}"]} for name in (*ATTACKS, *FAILURES, SLOW, RETRIED)
        }
        settings["models"][RETRIED]["retries"] = {"retry_on": ["retriable-4xx"]}
        with running(settings, demo=False) as gateway:
            yield gateway


def repeat(gateway: Gateway, model: str, attack: Attack) -> None:
    """Attacks often enough to open the breaker, and waits until Envoy has reported all requests."""
    before = reported_requests(gateway, model)
    client = Client(gateway, model)
    with ThreadPoolExecutor(REQUESTS_TO_OPEN) as pool:
        list(pool.map(attack, [client] * REQUESTS_TO_OPEN))
    eventually(lambda: reported_requests(gateway, model) >= before + REQUESTS_TO_OPEN)


def is_open(gateway: Gateway, model: str) -> bool:
    """Whether the breaker refuses requests. It admits the first as a probe."""
    client = Client(gateway, model)
    return b"breaker_open" in b"".join(whole("ok")(client) for _ in range(5))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_client_cannot_open_the_breaker(scripted: Gateway, name: str) -> None:
    # The callout decides about all WebSockets.
    decided = nullcontext() if name == "websocket" else decided_by_placement(scripted)
    with decided:
        repeat(scripted, name, ATTACKS[name])
    assert not is_open(scripted, name)
    # Failures of the version count, also after the attack.
    repeat(scripted, name, whole("error"))
    repeat(scripted, name, whole("error"))
    eventually(lambda: is_open(scripted, name))


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_of_the_version_opens_the_breaker(scripted: Gateway, name: str) -> None:
    with decided_by_placement(scripted):
        assert b" 200 OK" in whole("ok")(Client(scripted, name))
    repeat(scripted, name, FAILURES[name])
    eventually(lambda: is_open(scripted, name))


def test_clients_that_do_not_read_their_response_do_not_open_the_breaker(scripted: Gateway) -> None:
    """The server resets the connection when it cannot send the rest."""
    client = Client(scripted, SLOW)
    with decided_by_placement(scripted), contextlib.ExitStack() as stack:
        for _ in range(REQUESTS_TO_OPEN):
            connection = stack.enter_context(client.connect(receive_buffer=4096))
            connection.sendall(client.head("write-timeout", "content-length: 4") + b"body")
        eventually(lambda: reported_requests(scripted, SLOW) >= REQUESTS_TO_OPEN)
    assert not is_open(scripted, SLOW)


def test_a_client_error_after_all_retries_does_not_open_the_breaker(scripted: Gateway) -> None:
    with decided_by_placement(scripted):
        repeat(scripted, RETRIED, whole("conflict"))
    assert not is_open(scripted, RETRIED)
