"""A web server that answers as a test says, and keeps the requests."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """A request."""

    connection: int
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def frames(self) -> list[int]:
        return [json.loads(line)["frame"] for line in self.body.splitlines()]


@dataclass
class WebServer:
    """`answers`: what the next requests get; then 204. Each is a status and headers."""

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    body: bytes = b""
    closes: bool = False
    """Whether it closes the connection after each answer, which does not say so."""
    silent: threading.Event = field(default_factory=threading.Event)
    """While it is set, requests get no answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events?tenant=7"

    @property
    def frames(self) -> list[int]:
        """The frames of the requests, without repeats of a request."""
        return list(dict.fromkeys(frame for each in self.requests for frame in each.frames))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Otherwise the requests of open connections would still be answered."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """A connection has ended, from one side or the other."""


@contextmanager
def web_server(port: int = 0) -> Iterator[WebServer]:
    state = WebServer()
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append(Received(self.client_address[1], self.path, headers, body))
            while state.silent.is_set() and not stop.wait(0.01):
                pass
            status, sent = state.answers.pop(0) if state.answers else (204, {})
            self.send_response(status)
            for name, value in sent.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", str(len(state.body)))
            self.end_headers()
            if status != 204:
                self.wfile.write(state.body)
            self.close_connection = state.closes

        def log_message(self, *_: object) -> None:
            """Requests are in `state`."""

    with _Server(("127.0.0.1", port), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            stop.set()
            server.shutdown()
            thread.join()
            server.close_connections()
