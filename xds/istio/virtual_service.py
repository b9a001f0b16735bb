"""The VirtualService: routes a request to the version that the callout has chosen.

The callout sets `x-model-service`, and Envoy matches the route again. A request without a decision
matches only the last route, which refuses it. Only the callout may set the header: the filters of
`xds.istio.envoy_filters` remove it from requests of clients.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from protos.istio_networking_pb2 import (
    Headers,
    HTTPBody,
    HTTPDirectResponse,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    StringMatch,
    VirtualService,
)
from sluice.config import GatewayConfig
from sluice.config.istio import Istio
from sluice.config.values import READ_METHODS
from sluice.contract import headers, names
from sluice.contract.problem import MEDIA_TYPE, problem_members
from sluice.contract.reasons import Reason
from xds.istio.destinations import VersionDestination, destinations
from xds.istio.routes import MESH, destination, version_route
from xds.istio.weights import weighted_routes
from xds.resources import header_mutations

_OF_GATEWAY: Final = (headers.REASON, headers.LIMIT, *headers.RATE_LIMIT)
"""Response headers that only the gateway may set, and that reach clients."""

_WEBSOCKET: Final = StringMatch(regex="(?i)websocket")


def virtual_service(config: GatewayConfig, istio: Istio) -> VirtualService:
    """The routes of all models."""
    targets = list(destinations(config, istio))
    changed = _response_headers(config)
    routes = [route for each in targets for route in _decided_routes(istio, each, changed)]
    if istio.mesh == "weights":
        for _, versions in groupby(targets, lambda each: each.model_name):
            routes += weighted_routes(versions)
    return VirtualService(
        hosts=istio.hosts,
        gateways=[*istio.gateways, *([] if istio.mesh == "none" else [MESH])],
        http=[*routes, _undecided()],
        export_to=istio.export_to,
    )


def _decided_routes(
    istio: Istio, target: VersionDestination, changed: Headers
) -> Iterator[HTTPRoute]:
    """The routes of requests for which the callout has chosen the version.

    Only what it chose is compared: the path of a gRPC call does not name the model.
    """
    model, retries = target.model, target.model.retries
    chosen = names.cluster_name(target.model_name, target.version_name)
    match = HTTPMatchRequest(headers={headers.MODEL_SERVICE: StringMatch(exact=chosen)})
    if not model.websocket:
        # The listeners of a mesh allow WebSockets for every route.
        match.without_headers["upgrade"].CopyFrom(_WEBSOCKET)
    if istio.mesh == "weights":
        match.gateways.extend(istio.gateways)
    if istio.mesh == "weights" and not istio.gateways:
        return
    to = [HTTPRouteDestination(destination=destination(target))]
    if retries.reads and retries.attempts:
        reads = HTTPMatchRequest()
        reads.CopyFrom(match)
        reads.method.regex = "|".join(READ_METHODS)
        yield _with(changed, version_route(
            target.model_name, model, [reads], to, (*retries.retry_on, "reset")
        ))  # fmt: skip
    yield _with(changed, version_route(target.model_name, model, [match], to))


def _with(changed: Headers, route: HTTPRoute) -> HTTPRoute:
    route.headers.CopyFrom(changed)
    return route


def _response_headers(config: GatewayConfig) -> Headers:
    """Replaces headers of the model server by those of the decision, or removes them."""
    limits = bool(config.limits.rules) and config.limits.headers
    found = header_mutations.copied_to_responses(
        reason=config.requests.expose_reason, limits=limits
    )
    added = {each.header.key: each.header.value for each in found}
    return Headers(response=Headers.HeaderOperations(remove=_OF_GATEWAY, add=added))


def _undecided() -> HTTPRoute:
    """Refuses all requests that have no decision."""
    detail = "The gateway could not decide on this request."
    body = json.dumps(problem_members(503, Reason.DECISION_UNAVAILABLE, detail))
    typed = Headers.HeaderOperations(set={"content-type": MEDIA_TYPE})
    return HTTPRoute(
        name=names.UNDECIDED_ROUTE,
        direct_response=HTTPDirectResponse(status=503, body=HTTPBody(string=body)),
        headers=Headers(response=typed),
    )
