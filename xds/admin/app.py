"""The HTTP application of the control plane: probes, metrics, status and config. Read only.

The application has no authentication. It refuses requests to `/v1/` whose Host header does not name
this server, so that no web page can read the responses.
"""

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluice.http.hosts import HostGuard
from sluice.http.metrics import metrics_endpoint
from xds.admin.redaction import redacted
from xds.admin.status import ControlPlaneState

ALLOWED_HOSTS_KEY = "control_plane.allowed_hosts"


class AdminHandlers:
    """The HTTP handlers. A new admin resource is one handler and one route in `application`."""

    def __init__(self, state: ControlPlaneState) -> None:
        self._state = state

    async def healthz(self, _: Request) -> Response:
        """Liveness probe."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        """Readiness probe. The server starts only after it has a valid config."""
        return PlainTextResponse("ready\n")

    async def status(self, _: Request) -> Response:
        """The state of the control plane and its nodes."""
        return Response(self._state.status().model_dump_json(), media_type="application/json")

    async def config(self, _: Request) -> Response:
        """The latest valid config, without secrets."""
        return JSONResponse(redacted(self._state.config))


def application(state: ControlPlaneState, metrics: Collector) -> Starlette:
    """Create the ASGI application."""
    handlers = AdminHandlers(state)
    settings = state.config.control_plane
    guard = HostGuard(settings.http, settings.allowed_hosts, ALLOWED_HOSTS_KEY)
    public = {
        "/healthz": handlers.healthz,
        "/readyz": handlers.readyz,
        "/metrics": metrics_endpoint(metrics),
    }
    guarded = {"/v1/status": handlers.status, "/v1/config": handlers.config}
    return Starlette(
        routes=[
            *(Route(path, handler) for path, handler in public.items()),
            *(Route(path, guard.protect(handler)) for path, handler in guarded.items()),
        ]
    )
