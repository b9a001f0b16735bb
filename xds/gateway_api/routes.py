"""HTTPRoutes: one for each model, whose rules match the decision, and one for all requests.

A request first takes the route for all requests, whose filter calls the callout. The decision sets
`x-model-service`, and Envoy matches the route again: now a rule with this header. A request without
a decision stays on the first route, which answers 503.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sluice.config import Model
from sluice.contract import headers
from sluice.contract.names import cluster_name
from sluice.contract.problem import MEDIA_TYPE, problem_members
from xds.gateway_api.objects import (
    ENVOY_GATEWAY,
    GATEWAY,
    PREFIX,
    Object,
    duration,
    kubernetes_object,
    object_name,
    rule_name,
)
from xds.gateway_api.target import Target, parents

UNDECIDED: Final = f"{PREFIX}-undecided"
"""The name of the route for requests before the decision."""

_MAX_RULES: Final = 16
"""Maximum rules of an HTTPRoute."""

_UNDECIDED_STATUS: Final = 503


def route_name(model: str, versions: Sequence[str], version: str) -> str:
    """The name of the route with the rule of a version. A model may need several routes."""
    part = versions.index(version) // _MAX_RULES
    return object_name(model, *((f"part-{part}",) if part else ()))


def model_routes(
    target: Target, name: str, model: Model, backends: Mapping[str, list[Object]]
) -> Iterator[Object]:
    """The routes of a model. `backends`: the backendRefs of each version."""
    versions = list(model.versions)
    for start in range(0, len(versions), _MAX_RULES):
        rules: list[Object] = [
            {
                "name": rule_name(version),
                "matches": [_decided(cluster_name(name, version))],
                "timeouts": {"request": duration(model.timeout)},
                "backendRefs": backends[version],
            }
            for version in versions[start : start + _MAX_RULES]
        ]
        yield _route(target, route_name(name, versions, versions[start]), rules)


def undecided(target: Target) -> Iterator[Object]:
    """The route for requests before the decision, and its response without one."""
    detail = "no decision of the gateway has reached Envoy"
    body = json.dumps(problem_members(_UNDECIDED_STATUS, "no_decision", detail))
    response = {
        "statusCode": _UNDECIDED_STATUS,
        "contentType": MEDIA_TYPE,
        "body": {"type": "Inline", "inline": body},
    }
    yield kubernetes_object(
        "HTTPRouteFilter", target.namespace, UNDECIDED, {"directResponse": response}
    )
    reference = {"group": ENVOY_GATEWAY, "kind": "HTTPRouteFilter", "name": UNDECIDED}
    rule: Object = {
        "matches": [{"path": _EVERY_PATH}],
        "filters": [{"type": "ExtensionRef", "extensionRef": reference}],
    }
    yield _route(target, UNDECIDED, [rule])


_EVERY_PATH: Final[Object] = {"type": "PathPrefix", "value": "/"}


def _decided(service: str) -> Object:
    """The match of requests for which the callout chose this version. It may change the path."""
    header = {"type": "Exact", "name": headers.MODEL_SERVICE, "value": service}
    return {"path": dict(_EVERY_PATH), "headers": [header]}


def _route(target: Target, name: str, rules: list[Object]) -> Object:
    spec: Object = {"parentRefs": parents(target), "rules": rules}
    if target.hostnames:
        spec["hostnames"] = list(target.hostnames)
    return kubernetes_object("HTTPRoute", target.namespace, name, spec)


def of_route(name: str, rule: str) -> Object:
    """The reference of a policy to a rule of a route."""
    return {"group": GATEWAY, "kind": "HTTPRoute", "name": name, "sectionName": rule}
