"""The control plane's HTTP: probes, metrics, the status, and the config in force. Read only.

It has no authentication: what `/v1/` says is for whoever reaches the address, but for no page that
a browser shows there. So a request must name this server as its host.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluice.config.hosts import is_meant
from sluice.config.values import split_host_port
from xds.status import State, redacted

Endpoint = Callable[[Request], Awaitable[Response]]

MISDIRECTED = (
    "This host is not known here. Ask by IP address, as localhost, or by a name that the config has"
    " in control_plane.http_names.\n"
)


def application(state: State, metrics: Collector) -> Starlette:
    """The ASGI application."""
    registry = CollectorRegistry()
    registry.register(metrics)

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        # It is built only after a first valid config: whoever asks can be served.
        return PlainTextResponse("ready\n")

    async def status(_: Request) -> Response:
        return Response(state.status().model_dump_json(), media_type="application/json")

    async def config(_: Request) -> Response:
        return JSONResponse(redacted(state.config))

    async def exposition(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": media_type})

    settings = state.config.control_plane
    names = {split_host_port(settings.http)[0].lower(), *settings.http_names}
    return Starlette(
        routes=[
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/metrics", exposition),
            Route("/v1/status", _for_hosts(names, status)),
            Route("/v1/config", _for_hosts(names, config)),
        ]
    )


def _for_hosts(names: Collection[str], endpoint: Endpoint) -> Endpoint:
    """421 (RFC 9110 section 15.5.20) for requests to other hosts."""

    async def guarded(request: Request) -> Response:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not is_meant(hosts[0], names):
            return PlainTextResponse(MISDIRECTED, 421)
        return await endpoint(request)

    return guarded


class AdminServer(uvicorn.Server):
    """uvicorn on the loop that is already running, which keeps its own signal handlers."""

    def __init__(self, app: Starlette, address: str) -> None:
        host, port = split_host_port(address)
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=int(port),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                limit_concurrency=100,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the control plane's business."""
        yield
