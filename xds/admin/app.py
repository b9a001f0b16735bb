"""The HTTP application of the control plane: probes, metrics, status and config. Read only.

Requests to `/v1/` need a role (`xds.admin.access`). Probes and metrics are open to everyone.
"""

from pathlib import Path

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluice.config.redaction import redacted
from sluice.http.metrics import metrics_endpoint
from xds.admin.access import Role, admin_guard
from xds.admin.status import ControlPlaneState


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


def application(
    state: ControlPlaneState, metrics: Collector, directory: Path = Path()
) -> Starlette:
    """Create the ASGI application. File names in the config are relative to `directory`."""
    handlers = AdminHandlers(state)
    guard = admin_guard(state.config.control_plane, lambda: state.config.control_plane, directory)
    public = {
        "/healthz": handlers.healthz,
        "/readyz": handlers.readyz,
        "/metrics": metrics_endpoint(metrics),
    }
    guarded = {
        "/v1/status": (handlers.status, Role.READER),
        "/v1/config": (handlers.config, Role.READER),
    }
    return Starlette(
        routes=[
            *(Route(path, handler) for path, handler in public.items()),
            *(Route(path, guard.protect(*handler)) for path, handler in guarded.items()),
        ]
    )
