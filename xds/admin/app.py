"""The control plane's HTTP: probes, metrics, the status, and the config in force. Read only.

It has no authentication: what `/v1/` says is for whoever reaches the address, but for no page that
a browser shows there. So a request must name this server as its host.
"""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluice.config.values import split_host_port
from sluice.http.hosts import for_hosts
from xds.admin.status import ControlPlaneState, redacted

NAMES = "control_plane.allowed_hosts"


def application(state: ControlPlaneState, metrics: Collector) -> Starlette:
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
    names = {split_host_port(settings.http)[0].lower(), *settings.allowed_hosts}
    return Starlette(
        routes=[
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/metrics", exposition),
            Route("/v1/status", for_hosts(names, status, NAMES)),
            Route("/v1/config", for_hosts(names, config, NAMES)),
        ]
    )
