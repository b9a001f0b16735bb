"""An HTTP server of key sets, for tests."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from extproc.auth import Authenticator, CredentialsError
from tests.extproc.auth.tokens import OTHER_RSA, identify, key_set, rsa_jwk

FIRST = key_set(rsa_jwk(kid="one"))
ROTATED = key_set(rsa_jwk(OTHER_RSA, kid="two"))


class KeyServer(ThreadingHTTPServer):
    """Serves `document` with `status`, and counts requests. Responses wait until `open` is set."""

    daemon_threads = True

    def __init__(self, document: str) -> None:
        self.document = document
        self.status = 200
        self.requests = 0
        self.headers: dict[str, str] = {}
        """Headers of the latest request."""
        self.arrivals = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        super().__init__(("127.0.0.1", 0), _Keys)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/keys"


class _Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, KeyServer)
        server.requests += 1
        server.headers = {name.lower(): value for name, value in self.headers.items()}
        server.arrivals.release()
        server.open.wait(60)
        body = server.document.encode()
        self.send_response(server.status)
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def keys_served(document: str = FIRST) -> Iterator[KeyServer]:
    with KeyServer(document) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.open.set()
            server.shutdown()
            thread.join()


async def until_accepted(authenticator: Authenticator, credentials: str) -> None:
    """Wait until the token is accepted, after the keys have been fetched."""
    async with asyncio.timeout(60):
        while True:
            try:
                identify(authenticator, credentials)
            except CredentialsError:
                await asyncio.sleep(0.005)
            else:
                return
