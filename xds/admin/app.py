"""The control plane's HTTP: probes, metrics, the status, and the config in force. Read only.

It has no authentication: what `/v1/` says is for whoever reaches the address, but for no page that
a browser shows there. So a request must name this server as its host.
"""

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluice.http.hosts import HostGuard
from sluice.http.metrics import metrics_endpoint
from xds.admin.status import ControlPlaneState, redacted

ALLOWED_HOSTS_KEY = "control_plane.allowed_hosts"


def application(state: ControlPlaneState, metrics: Collector) -> Starlette:
    """The ASGI application."""

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        # It is built only after a first valid config: whoever asks can be served.
        return PlainTextResponse("ready\n")

    async def status(_: Request) -> Response:
        return Response(state.status().model_dump_json(), media_type="application/json")

    async def config(_: Request) -> Response:
        return JSONResponse(redacted(state.config))

    settings = state.config.control_plane
    guard = HostGuard(settings.http, settings.allowed_hosts, ALLOWED_HOSTS_KEY)
    return Starlette(
        routes=[
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/metrics", metrics_endpoint(metrics)),
            Route("/v1/status", guard.protect(status)),
            Route("/v1/config", guard.protect(config)),
        ]
    )
