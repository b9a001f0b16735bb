"""A client without credentials keeps nobody out of an HTTP server, whatever it sends or not."""

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluice.config.access import Access
from sluice.http import connections
from sluice.http.access import AccessGuard, Role
from sluice.http.connections import MIN_TAKEN, STALL_TIMEOUT, Connection, Unread
from sluice.http.hosts import HostGuard
from sluice.http.server import serve_in_thread
from tests import plain_http
from tests.integration.gateway import eventually

HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\n"
LARGE = b"x" * (64 << 20)


async def answer(_: Request) -> Response:
    return PlainTextResponse("ok")


async def answer_much(_: Request) -> Response:
    return Response(LARGE)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with short times and few connections."""
    monkeypatch.setattr(Connection, "head_timeout", 0.3)
    monkeypatch.setattr(connections, "STALL_TIMEOUT", 0.3)
    monkeypatch.setattr(connections, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(Connection, "max_connections", 10)
    routes = [Route("/", answer, methods=["GET", "POST"]), Route("/large", answer_much)]
    with serve_in_thread(Starlette(routes=routes), "127.0.0.1:0", max_requests=5) as bound:
        yield bound


def connect(address: str, sent: bytes = b"") -> socket.socket:
    host, _, port = address.rpartition(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    client.sendall(sent)
    return client


def is_answered(address: str) -> bool:
    with plain_http.client(timeout=20) as client:
        return client.get(f"http://{address}/").text == "ok"


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD + b"x-long: aaaa"], ids=repr)
def test_clients_that_send_no_request_keep_nobody_out(address: str, sent: bytes) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(address, sent)) for _ in range(30)]
        assert is_answered(address)
        for client in clients:
            assert not received(client)


def received(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    found = b""
    try:
        while part := client.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def trickle(client: socket.socket) -> None:
    """Sends bytes until the server closes the connection."""
    for _ in range(900):
        client.sendall(b"a")
        time.sleep(0.01)


def test_a_head_must_arrive_in_time_however_slowly_it_is_sent(address: str) -> None:
    with connect(address) as client, pytest.raises(OSError):
        trickle(client)


def test_the_rest_of_a_body_must_arrive_in_time_after_the_answer(address: str) -> None:
    sent = HEAD + b"content-length: 1000\r\n\r\n"
    with connect(address, sent) as client, pytest.raises(OSError):
        trickle(client)


def test_a_client_that_does_not_take_its_response_loses_its_connection(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, abort = threading.Event(), Connection.abort
    monkeypatch.setattr(Connection, "abort", lambda each: (abort(each), closed.set()))
    with connect(address, b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n") as client:
        assert closed.wait(60)
        assert len(received(client)) < len(LARGE)


def test_requests_that_were_sent_ahead_end_with_their_connection(address: str) -> None:
    with connect(address, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2000) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert client.recv(1)
    assert is_answered(address)


def test_a_client_that_takes_its_response_slowly_keeps_its_connection() -> None:
    unread, size = Unread(0.0), 10 * MIN_TAKEN
    for step in range(11):
        assert not unread.is_stalled(size - step * MIN_TAKEN, step * (STALL_TIMEOUT - 1))
    assert not unread.is_stalled(size, 11 * STALL_TIMEOUT)
    assert not unread.is_stalled(size - MIN_TAKEN + 1, 12 * STALL_TIMEOUT - 1)
    assert unread.is_stalled(size - MIN_TAKEN + 1, 12 * STALL_TIMEOUT)


async def wait(request: Request) -> Response:
    """Takes its place until the body has arrived."""
    with suppress(ClientDisconnect):
        await request.body()
    return PlainTextResponse("ok")


def bearer(role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {role:-<32}"}


@pytest.fixture
def guarded() -> Iterator[str]:
    """A server with five places."""
    roles = ("reader", "operator")
    digests = {role: hashlib.sha256(f"{role:-<32}".encode()).hexdigest() for role in roles}
    tokens = [{"name": role, "role": role, "sha256": digests[role]} for role in roles]
    access = Access.model_validate({"tokens": tokens})
    guard = AccessGuard(lambda: access, Path(), HostGuard("localhost:1", (), "key"), trusted=True)
    routes = [
        Route("/", guard.protect(wait, Role.READER), methods=["POST"]),
        Route("/open", answer),
    ]
    with serve_in_thread(Starlette(routes=routes), "127.0.0.1:0", max_requests=5) as bound:
        yield bound


def test_requests_of_strangers_and_readers_leave_places_for_operators(guarded: str) -> None:
    def post(role: str) -> int:
        return client.post(f"http://{guarded}/", headers=bearer(role)).status_code

    unfinished = HEAD + b"expect: 100-continue\r\ncontent-length: 9\r\n"
    as_reader = unfinished + f"authorization: {bearer('reader')['authorization']}\r\n\r\n".encode()
    with ExitStack() as stack:
        client = stack.enter_context(plain_http.client(timeout=20))
        for _ in range(9):
            assert b"401" in stack.enter_context(connect(guarded, unfinished + b"\r\n")).recv(100)
        for _ in range(4):
            assert b"100" in stack.enter_context(connect(guarded, as_reader)).recv(100)
        assert post("reader") == 503
        assert post("operator") == 200
        assert client.get(f"http://{guarded}/open").status_code == 200
    with plain_http.client(timeout=20) as client:
        eventually(lambda: post("reader") == 200)
