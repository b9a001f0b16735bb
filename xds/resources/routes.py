"""Routes (RDS): timeouts, retries, upgrades and limits of each model's requests.

Every route reads the cluster from a request header that only the callout can set.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    RouteActionUpgradeConfig,
    RouteConfiguration,
    RouteMatch,
    RouteMatchConnectMatcher,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from sluice.config import GatewayConfig, Model
from sluice.config.gateway import Requests
from sluice.config.models import Retries
from sluice.contract import headers, names
from sluice.contract.paths import OIP_GRPC_PREFIX
from xds.resources import cors, header_mutations, local_rate_limit
from xds.resources.local_rate_limit import ModelLimits
from xds.resources.messages import header, pack, seconds


def route_configuration(config: GatewayConfig, routes: Iterable[bytes]) -> bytes:
    """The serialized route table of the listener, from serialized routes in matching order.

    The routes are already serialized because the routes of unchanged models come from a cache. In
    the protobuf encoding, a message is the concatenation of its encoded fields.
    """
    # Models have different paths, not different hosts.
    host = VirtualHost(
        name=names.ROUTE_CONFIGURATION,
        domains=["*"],
        typed_per_filter_config=local_rate_limit.virtual_host_config(config),
    )
    table = RouteConfiguration(
        name=names.ROUTE_CONFIGURATION,
        response_headers_to_add=_response_headers(config),
    )
    hosts = b"".join([bytes(host), *(_field(_ROUTES, route) for route in routes)])
    return bytes(table) + _field(_VIRTUAL_HOSTS, hosts)


_ROUTES = 3
"""Field number of VirtualHost.routes."""

_VIRTUAL_HOSTS = 2
"""Field number of RouteConfiguration.virtual_hosts."""


def _field(number: int, message: bytes) -> bytes:
    """A field that holds a message: tag with wire type 2, length, content."""
    return (
        betterproto2.encode_varint(number << 3 | 2)
        + betterproto2.encode_varint(len(message))
        + message
    )


def _response_headers(config: GatewayConfig) -> list[HeaderValueOption]:
    """Headers of the callout that Envoy copies from the request to the response."""
    added = []
    if config.requests.expose_reason:
        added.append(header(headers.REASON, f"%REQ({headers.REASON})%"))
    if config.limits.rules and config.limits.headers:
        added += [
            header(name, f"%REQ({headers.INTERNAL_PREFIX}{name})%") for name in headers.RATE_LIMIT
        ]
    return added


def model_routes(name: str, model: Model, requests: Requests, limits: ModelLimits) -> list[Route]:
    """The routes of one model. `requests` applies if the model sets no `max_body` and so on."""
    found = [_route(name, model, match, requests, limits) for match in _matches(name, model)]
    if not (model.retries.reads and model.retries.attempts):
        return found
    reads = _route(name, model, _decided(name, READS), requests, limits)
    assert reads.route is not None
    assert reads.route.retry_policy is not None
    reads.route.retry_policy.retry_on = ",".join((*model.retries.retry_on, "reset"))
    return [reads, *found]


READS: Final = "GET|HEAD"
"""Methods that change nothing on the server (RFC 9110 section 9.2.1), so that they can be repeated:
a regular expression."""


def precedence(route: Route) -> int:
    """The order of routes of models: Envoy takes the first that matches, so higher ones come first.

    Routes of decided requests come first. Of the others, the longest path comes first, because the
    callout chooses the model with the longest path.
    """
    match = route.match
    assert match is not None
    if match.prefix == "/":
        return _DECIDED
    return len(match.path_separated_prefix or match.prefix or "")


_DECIDED = 1 << 16
"""More than the length of any path."""


def fallback_routes() -> list[Route]:
    """The last routes: requests for no model, which the callout refuses.

    A CONNECT request has no path, so `prefix: /` does not match it. Without a route, the request
    would reach the callout without any rate limit. With this route, which allows no tunnels, Envoy
    refuses the request before all filters.
    """
    matches = (RouteMatch(connect_matcher=RouteMatchConnectMatcher()), RouteMatch(prefix="/"))
    return [Route(name=names.OTHER, match=match, route=_action()) for match in matches]


def _matches(name: str, model: Model) -> Iterator[RouteMatch]:
    """The matches of a model's requests: by path before the decision, by cluster after it.

    Envoy matches the route again after the decision (see the ext_proc filter). The callout may have
    replaced the path, so the first match is the cluster that the callout has chosen.
    """
    yield _decided(name)
    for path in model.prefixes(name):
        yield RouteMatch(path_separated_prefix=path)
    yield RouteMatch(prefix=OIP_GRPC_PREFIX, headers=[_header(headers.MODEL_NAME, exact=name)])


def _decided(name: str, methods: str | None = None) -> RouteMatch:
    """The match of a model's requests after the decision, of all methods or of these."""
    matched = [_header(headers.MODEL_SERVICE, prefix=names.cluster_name(name, ""))]
    if methods is not None:
        expression = StringMatcher(safe_regex=RegexMatcher(regex=methods))
        matched.append(HeaderMatcher(name=":method", string_match=expression))
    return RouteMatch(prefix="/", headers=matched)


def _header(name: str, *, exact: str | None = None, prefix: str | None = None) -> HeaderMatcher:
    return HeaderMatcher(name=name, string_match=StringMatcher(exact=exact, prefix=prefix))


def _route(
    name: str, model: Model, match: RouteMatch, requests: Requests, limits: ModelLimits
) -> Route:
    action = _action()
    action.timeout = seconds(model.timeout)
    action.idle_timeout = seconds(model.idle_timeout)
    action.retry_policy = _retry_policy(model.retries)
    if model.websocket:
        action.upgrade_configs = [RouteActionUpgradeConfig(upgrade_type="websocket", enabled=True)]
    route = Route(
        name=name,
        match=match,
        route=action,
        metadata=local_rate_limit.metadata(name, model, limits),
    )
    cors.allow_origins(route, requests.cors if model.cors is None else model.cors, model.methods)
    if model.converts:
        route.request_body_buffer_limit = _buffer_limit(model, requests)
        header_mutations.set_response_length(route)
    return route


def _buffer_limit(model: Model, requests: Requests) -> int:
    """Bytes of a body that Envoy buffers for conversion.

    Despite its name, Envoy's limit applies to responses too. The callout enforces the exact limits.
    """
    max_body = requests.max_body if model.max_body is None else model.max_body
    max_response = requests.max_response if model.max_response is None else model.max_response
    return max(max_body, max_response + _GRPC_PREFIX)


_GRPC_PREFIX = 5
"""Bytes before a gRPC message."""


def _action() -> RouteAction:
    return RouteAction(
        cluster_header=headers.MODEL_SERVICE,
        cluster_not_found_response_code=RouteActionClusterNotFoundResponseCode.SERVICE_UNAVAILABLE,
    )


def _retry_policy(retries: Retries) -> RetryPolicy | None:
    if retries.attempts == 0:
        return None
    per_try = retries.per_try_timeout
    return RetryPolicy(
        retry_on=",".join(retries.retry_on),
        num_retries=retries.attempts,
        per_try_timeout=seconds(per_try) if per_try is not None else None,
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=pack(PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=3,
    )
