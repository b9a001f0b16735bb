"""uvicorn without its signal handlers: when to stop is the decision of the process around it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from sluice.config.values import split_host_port

STOP_TIMEOUT = 2.0
"""Seconds that a serving thread has to end."""

GRACEFUL_TIMEOUT = 1
"""Seconds that open requests have when the server stops."""


class HttpServer(uvicorn.Server):
    """Serves an application. Its signal handlers are those of the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handler."""
        yield


def http_server(app: Starlette, address: str, *, max_requests: int) -> HttpServer:
    """A server at `host:port`, for the event loop that runs `serve()`.

    `max_requests` are answered at a time; the next one gets 503.
    """
    host, port = split_host_port(address)
    return HttpServer(
        uvicorn.Config(
            app,
            host=host,
            port=int(port),
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            timeout_graceful_shutdown=GRACEFUL_TIMEOUT,
            limit_concurrency=max_requests,
        )
    )


@contextmanager
def serving(app: Starlette, address: str, *, max_requests: int) -> Iterator[str]:
    """Serve on a thread of its own while the block runs; yields the bound address.

    Raises OSError where the address is taken.
    """
    host, port = split_host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, int(port)), family=family) as listener:
        server = http_server(app, address, max_requests=max_requests)
        thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
        thread.start()
        try:
            yield f"{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOP_TIMEOUT)
