"""The servers of a worker for Envoy: HTTP/1.1 and gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from sluice.grpc_credentials import server_credentials
from sluice.http.server import create_http_server, listen
from sluice.tls import TlsFiles
from video.service.connection import EnvoyConnection
from video.service.grpc import MAX_MESSAGE, VideoAnalysis
from video.service.http import VideoApplication
from video.service.uploads import Uploads
from video.service.watchers import Watchers

LAST_EVENTS: Final = 1
"""Seconds in which calls may send their last events after the drain."""

_GRPC_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # Envoy sends pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Fail if another process has the address.
    ("grpc.so_reuseport", 0),
)


@asynccontextmanager
async def serving(
    uploads: Uploads,
    watchers: Watchers,
    http: str,
    grpc_address: str,
    *,
    tls: TlsFiles | None,
    clients: frozenset[str] | None,
) -> AsyncIterator[None]:
    """Serve Envoy while the block runs. At its end, calls may send their last events.

    `tls` and `clients` as in `WorkerSettings`. Raises OSError if an address is in use.
    """
    application = VideoApplication(uploads, watchers, clients)
    listener = listen(http)
    server = create_http_server(
        application,
        http,
        max_requests=EnvoyConnection.max_connections,
        tls=tls,
        certificates="required",
        connections=EnvoyConnection,
    )
    server.config.timeout_graceful_shutdown = LAST_EVENTS
    calls = grpc.aio.server(options=_GRPC_OPTIONS)
    calls.add_generic_rpc_handlers((VideoAnalysis(uploads, watchers, clients).handler,))
    try:
        if tls is None:
            calls.add_insecure_port(grpc_address)
        else:
            calls.add_secure_port(grpc_address, server_credentials(tls))
    except RuntimeError as error:
        listener.close()
        raise OSError(f"cannot listen for gRPC on {grpc_address}") from error
    await calls.start()
    serving_http = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(serving_http, calls.stop(LAST_EVENTS))
