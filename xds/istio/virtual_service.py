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
    CorsPolicy,
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
from xds.istio.cors import cors_policy
from xds.istio.destinations import VersionDestination, destinations
from xds.istio.routes import MESH, destination, path_matches, version_route
from xds.istio.weights import weighted_routes
from xds.resources import header_mutations
from xds.resources.cors import RESPONSE_HEADERS

_OF_GATEWAY: Final = (headers.REASON, headers.LIMIT, *headers.RATE_LIMIT)
"""Response headers that only the gateway may set, and that reach clients."""


def virtual_service(config: GatewayConfig, istio: Istio) -> VirtualService:
    """The routes of all models."""
    targets = list(destinations(config, istio))
    routes = [route for each in targets for route in _decided_routes(config, istio, each)]
    if istio.mesh == "weights":
        for _, versions in groupby(targets, lambda each: each.model_name):
            routes += weighted_routes(versions)
    return VirtualService(
        hosts=istio.hosts,
        gateways=[*istio.gateways, *([] if istio.mesh == "none" else [MESH])],
        http=[*routes, *_undecided_routes(config)],
        export_to=istio.export_to,
    )


def _decided_routes(
    config: GatewayConfig, istio: Istio, target: VersionDestination
) -> Iterator[HTTPRoute]:
    """The routes of requests for which the callout has chosen the version.

    Only what it chose is compared: the path of a gRPC call does not name the model.
    """
    if istio.mesh == "weights" and not istio.gateways:
        return
    model, retries = target.model, target.model.retries
    chosen = names.cluster_name(target.model_name, target.version_name)
    match = HTTPMatchRequest(headers={headers.MODEL_SERVICE: StringMatch(exact=chosen)})
    if istio.mesh == "weights":
        match.gateways.extend(istio.gateways)
    to = [HTTPRouteDestination(destination=destination(target))]
    policy = cors_policy(config.requests.cors_of(model), model.methods)
    changed = _response_headers(config, cors=policy is not None)
    name = target.model_name
    if retries.reads and retries.attempts:
        reads = HTTPMatchRequest()
        reads.CopyFrom(match)
        reads.method.regex = "|".join(READ_METHODS)
        causes = (*retries.retry_on, "reset")
        yield _with(changed, policy, version_route(name, model, [reads], to, causes))
    yield _with(changed, policy, version_route(name, model, [match], to))


def _with(changed: Headers, policy: CorsPolicy | None, route: HTTPRoute) -> HTTPRoute:
    route.headers.CopyFrom(changed)
    if policy is not None:
        route.cors_policy.CopyFrom(policy)
    return route


def _response_headers(config: GatewayConfig, *, cors: bool) -> Headers:
    """Replaces headers of the model server by those of the decision, or removes them.

    `cors`: web pages may call the model, so Envoy sets the headers of CORS after this.
    """
    limits = bool(config.limits.rules) and config.limits.headers
    found = header_mutations.copied_to_responses(
        reason=config.requests.expose_reason, limits=limits
    )
    added = {each.header.key: each.header.value for each in found}
    removed = (*_OF_GATEWAY, *RESPONSE_HEADERS) if cors else _OF_GATEWAY
    if cors:
        added["vary"] = "origin"
    return Headers(response=Headers.HeaderOperations(remove=removed, add=added))


def _undecided_routes(config: GatewayConfig) -> Iterator[HTTPRoute]:
    """The routes that refuse all requests without a decision.

    They are also those of preflights. Models that web pages may call have their own.
    """
    for name, model in config.models.items():
        policy = cors_policy(config.requests.cors_of(model), model.methods)
        if policy is not None:
            route = _undecided()
            route.match.extend(path_matches(name, model))
            route.cors_policy.CopyFrom(policy)
            yield route
    yield _undecided()


def _undecided() -> HTTPRoute:
    """Refuses requests that have no decision."""
    detail = "The gateway could not decide on this request."
    body = json.dumps(problem_members(503, Reason.DECISION_UNAVAILABLE, detail))
    typed = Headers.HeaderOperations(set={"content-type": MEDIA_TYPE})
    return HTTPRoute(
        name=names.UNDECIDED_ROUTE,
        direct_response=HTTPDirectResponse(status=503, body=HTTPBody(string=body)),
        headers=Headers(response=typed),
    )
