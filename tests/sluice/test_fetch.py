"""A request ends in time and within its size, whatever the server does."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import IncompleteRead

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from sluice.fetch import Fetch, TooLargeError
from sluice.http.server import serve_in_thread
from tests.trickle import trickle

OK = b"HTTP/1.1 200 OK\r\n"
PATIENCE = 30.0
SIZE = 1000


@contextmanager
def server() -> Iterator[str]:
    async def text(request: Request) -> Response:
        size, status = int(request.query_params["size"]), int(request.query_params["status"])
        return PlainTextResponse("x" * size, status)

    async def redirect(_: Request) -> Response:
        return RedirectResponse("/text?size=1&status=200")

    routes = [Route("/text", text), Route("/redirect", redirect)]
    with serve_in_thread(Starlette(routes=routes), "127.0.0.1:0", max_requests=5) as address:
        yield f"http://{address}"


def fetch(url: str, timeout: float = PATIENCE) -> Fetch:
    return Fetch(url, {}, timeout=timeout, max_size=SIZE, proxies={})


@pytest.mark.parametrize(
    ("begin", "byte"),
    [
        (b"", b"x"),
        (OK + b"x: ", b"x"),
        (OK, b"x: y\r\n"),
        (OK + b"content-length: 1000\r\n\r\n", b"x"),
        (OK + b"\r\n", b"x"),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"0"),
        (OK + b"transfer-encoding: chunked\r\n\r\n1;", b"x"),
        (b"HTTP/1.1 500 no\r\ncontent-length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_server_that_sends_slowly_is_left_in_time(begin: bytes, byte: bytes) -> None:
    """A socket timeout alone would not end the request, because bytes keep arriving."""
    with trickle(begin, byte) as (address, left):
        with pytest.raises(TimeoutError):
            fetch(f"http://{address}/", timeout=0.3).run()
        assert left.wait(PATIENCE)


def test_another_thread_ends_a_request() -> None:
    with trickle(OK) as (address, left):
        request = fetch(f"http://{address}/")
        request.end()
        with pytest.raises(TimeoutError):
            request.run()
        assert left.wait(PATIENCE)


def test_a_response_may_have_the_maximum_size() -> None:
    with server() as url:
        response = fetch(f"{url}/text?size={SIZE}&status=200").run()
        assert (response.is_success, response.body) == (True, b"x" * SIZE)
        with pytest.raises(TooLargeError):
            fetch(f"{url}/text?size={SIZE + 1}&status=200").run()


def test_a_response_that_ends_before_its_length_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(fetch(f"http://{host}:{port}/").run)
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(OK + b"content-length: 10\r\n\r\npart")
            with pytest.raises(IncompleteRead):
                running.result(PATIENCE)


def test_an_error_response_is_returned_with_the_begin_of_its_body() -> None:
    with server() as url:
        response = fetch(f"{url}/text?size={SIZE + 1}&status=404").run()
    assert (response.status, response.reason) == (404, "Not Found")
    assert (response.is_success, response.body) == (False, b"x" * SIZE)


def test_a_redirect_is_not_followed() -> None:
    with server() as url:
        response = fetch(f"{url}/redirect").run()
    assert (response.status, response.is_success) == (307, False)
