"""An HTTP/1.1 server that records requests, and whose responses are bytes that a test writes."""

import contextlib
import queue
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PATIENCE = 20.0
"""Seconds after which a test that waits for the gateway fails."""


@dataclass
class Exchange:
    """One request, as it arrived, and the connection for its response."""

    line: str
    headers: dict[str, str]
    """Names in lower case."""
    read: Callable[[int], bytes]
    read_line: Callable[[], bytes]
    send: Callable[[bytes], object]

    def body(self) -> bytes:
        """The whole body. Without `content-length`, it is empty, as for a WSGI server."""
        return self.read(int(self.headers.get("content-length", 0)))

    def chunk(self) -> bytes:
        """The next chunk of a body with `transfer-encoding: chunked`; empty for the last."""
        data = self.read(int(self.read_line(), 16))
        self.read_line()
        return data


Script = Callable[[Exchange], None]


@dataclass
class RawServer:
    """The server, as a test uses it."""

    address: str
    script: Script
    """Handles a request. After it, the connection is closed."""
    requests: "queue.Queue[Exchange]" = field(default_factory=queue.Queue)

    def serve(self, script: Script) -> None:
        """Handle the requests from now on with this script."""
        self.script = script
        self.requests = queue.Queue()

    def respond(self, head: str, body: bytes = b"") -> None:
        """Read each request, and respond with these header lines, a length, and a body."""
        lines = f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"

        def script(exchange: Exchange) -> None:
            exchange.body()
            exchange.send(lines.encode() + body)

        self.serve(script)

    def request(self) -> Exchange:
        """The next request that the server got."""
        return self.requests.get(timeout=PATIENCE)


@contextlib.contextmanager
def raw_server() -> Iterator[RawServer]:
    """Runs the server during a with block."""

    class Handler(socketserver.StreamRequestHandler):
        timeout = PATIENCE

        def handle(self) -> None:
            line = self.rfile.readline().decode().strip()
            if not line:
                return
            headers: dict[str, str] = {}
            while (text := self.rfile.readline().decode().strip()) != "":
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            exchange = Exchange(
                line, headers, self.rfile.read, self.rfile.readline, self.wfile.write
            )
            with contextlib.suppress(OSError):
                server.script(exchange)
            server.requests.put(exchange)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as listening:
        host, port = listening.server_address[:2]
        server = RawServer(f"{host!s}:{port}", lambda _: None)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join(10)
