"""The HTTP application of the control plane: the admin API, probes and metrics.

Requests to `/v1/` need a role (`xds.admin.access`). Probes are open to everyone.
"""

from collections.abc import Sequence

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.http.metrics import metrics_endpoint
from sluice.http.probes import probe_routes
from sluice.tls import NO_CREDENTIALS, ClientCredentials
from xds.admin.access import AccessGuard, Role
from xds.admin.api.openapi import openapi
from xds.admin.api.operations import ALL_METHODS, Call, Operation, routes, unknown_path
from xds.admin.config import ConfigOperations
from xds.admin.edits import Edits
from xds.admin.explain import Explainer, ExplainOperation
from xds.admin.history import HistoryOperations
from xds.admin.models import ModelOperations
from xds.admin.stream import EventStream
from xds.admin.versions import VersionOperations
from xds.admin.views import Views
from xds.events import Events
from xds.state import ControlPlaneState


def operations(
    state: ControlPlaneState,
    edits: Edits,
    events: Events,
    explainer: Explainer | None,
    worker_credentials: ClientCredentials = NO_CREDENTIALS,
) -> tuple[Operation, ...]:
    """The operations of the admin API. A new one is an entry of its module's list.

    `worker_credentials`: those of the control plane for the callout workers.
    """
    listed = (
        *Views(state).operations(),
        *ConfigOperations(edits).operations(),
        *ModelOperations(edits).operations(),
        *VersionOperations(edits, events).operations(),
        *HistoryOperations(edits).operations(),
        *ExplainOperation(state, explainer, worker_credentials).operations(),
        *EventStream(events).operations(),
    )
    return (*listed, _document(listed))


def application(
    operations: Sequence[Operation], guard: AccessGuard, metrics: Collector
) -> Starlette:
    """Create the ASGI application."""
    metrics_handler = guard.authorize(metrics_endpoint(metrics), Role.READER)
    return Starlette(
        routes=[
            # The server starts only after it has a valid config.
            *probe_routes(lambda: True),
            Route("/metrics", metrics_handler),
            *routes(operations, guard),
            Route("/v1/{rest:path}", unknown_path(guard), methods=ALL_METHODS),
        ]
    )


def _document(listed: tuple[Operation, ...]) -> Operation:
    """The operation that returns the OpenAPI document, which describes this operation too."""

    async def get(_: Call) -> Response:
        return JSONResponse(document)

    own = Operation("GET", "/v1/openapi.json", None, "This document", get, None)
    document = openapi((*listed, own))
    return own
