"""Runs ASGI applications with uvicorn. The surrounding process handles the signals."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from sluice.config.addresses import split_host_port
from sluice.http.connections import Connection
from sluice.http.request_limit import RequestLimit
from sluice.tls import TlsFiles, server_context

STOP_TIMEOUT = 2.0
"""Seconds to wait for the server's thread to end."""

GRACEFUL_TIMEOUT = 1
"""Seconds that open requests may take after the server stops."""


class HttpServer(uvicorn.Server):
    """A uvicorn server that installs no signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


def create_http_server(
    app: ASGIApp,
    address: str,
    *,
    max_requests: int,
    tls: TlsFiles | None = None,
    certificates: Literal["optional", "required"] = "optional",
    connections: type[Connection] = Connection,
) -> HttpServer:
    """Create a server for `host:port`. The caller runs its `serve()` in an event loop.

    The server handles `max_requests` requests of known callers at a time; `AccessGuard` refuses
    others (503). With `tls`, it speaks only TLS, and clients may or must have a certificate.
    `connections`: the class of its connections, which has their limits. Raises OSError for files
    that cannot be used.
    """
    host, port = split_host_port(address)
    config = uvicorn.Config(
        RequestLimit(max_requests).limited(app),
        host=host,
        port=int(port),
        http=connections,
        ws="none",
        # Strangers must not fill the log with warnings about their requests.
        log_level="error",
        server_header=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="asyncio",
        timeout_graceful_shutdown=GRACEFUL_TIMEOUT,
    )
    config.load()
    if tls is not None:
        config.ssl = server_context(tls, optional=certificates == "optional")
    return HttpServer(config)


def listen(address: str) -> socket.socket:
    """A socket that listens on `host:port`. Raises OSError, which names the address."""
    host, port = split_host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"cannot listen on {address}: {reason}") from error
    # Connections inherit the option. asyncio sets it only for sockets with an explicit protocol.
    # Without it, the body of a response waits for the ACK of its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextmanager
def serve_in_thread(
    app: ASGIApp, address: str, *, max_requests: int, tls: TlsFiles | None = None
) -> Iterator[str]:
    """Serve on a thread of its own inside the `with` block; yields the bound address.

    Raises OSError if the address is in use, with the address.
    """
    with listen(address) as listener:
        host, _ = split_host_port(address)
        server = create_http_server(app, address, max_requests=max_requests, tls=tls)
        thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
        thread.start()
        try:
            yield f"{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOP_TIMEOUT)
