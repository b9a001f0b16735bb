"""A server that sends given bytes, and then a byte from time to time, until the client leaves."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PAUSE = 0.02
"""Seconds between two bytes."""


@contextmanager
def trickle(begin: bytes, byte: bytes = b"x") -> Iterator[tuple[str, threading.Event]]:
    """The address of the server, and an event that is set when a client has left."""
    left = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with contextlib.suppress(OSError):
                self.wfile.write(begin)
                while not stop.wait(PAUSE):
                    self.wfile.write(byte)
            left.set()

    stop = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", left
        finally:
            stop.set()
            server.shutdown()
            thread.join()
