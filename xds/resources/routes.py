"""Routes (RDS): timeouts, retries, upgrades and limits of each model's requests.

Every route reads the cluster from a request header that only the callout can set.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from protos.base_pb2 import HeaderValueOption
from protos.matcher_pb2 import RegexMatcher, StringMatcher
from protos.route_pb2 import (
    HeaderMatcher,
    PreviousHostsPredicate,
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from sluice.config import GatewayConfig, Model
from sluice.config.gateway import Requests
from sluice.config.models import Retries
from sluice.contract import headers, names
from sluice.contract.paths import OIP_GRPC_PREFIX
from xds.resources import cors, header_mutations, local_rate_limit
from xds.resources.local_rate_limit import ModelLimits
from xds.resources.model_messages import boolean, field, header, pack, seconds, serialized, uint32


def route_configuration(config: GatewayConfig, routes: Iterable[bytes]) -> bytes:
    """The serialized route table of the listener, from serialized routes in matching order.

    The routes are already serialized because the routes of unchanged models come from a cache.
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
    hosts = b"".join([serialized(host), *(field(_ROUTES, route) for route in routes)])
    return serialized(table) + field(_VIRTUAL_HOSTS, hosts)


_ROUTES = 3
"""Field number of VirtualHost.routes."""

_VIRTUAL_HOSTS = 2
"""Field number of RouteConfiguration.virtual_hosts."""


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
    if match.prefix == "/":
        return _DECIDED
    return len(match.path_separated_prefix or match.prefix)


_DECIDED = 1 << 16
"""More than the length of any path."""


def fallback_routes() -> list[Route]:
    """The last routes: requests for no model, which the callout refuses.

    A CONNECT request has no path, so `prefix: /` does not match it. Without a route, the request
    would reach the callout without any rate limit. With this route, which allows no tunnels, Envoy
    refuses the request before all filters.
    """
    matches = (RouteMatch(connect_matcher=RouteMatch.ConnectMatcher()), RouteMatch(prefix="/"))
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
    action.timeout.FromTimedelta(seconds(model.timeout))
    action.idle_timeout.FromTimedelta(seconds(model.idle_timeout))
    if model.retries.attempts:
        action.retry_policy.CopyFrom(_retry_policy(model.retries))
    if model.websocket:
        action.upgrade_configs.add(upgrade_type="websocket", enabled=boolean(True))
    route = Route(
        name=name,
        match=match,
        route=action,
        metadata=local_rate_limit.metadata(name, model, limits),
    )
    cors.allow_origins(route, requests.cors if model.cors is None else model.cors, model.methods)
    if model.converts:
        route.request_body_buffer_limit.value = _buffer_limit(model, requests)
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
        cluster_not_found_response_code=RouteAction.SERVICE_UNAVAILABLE,
    )


def _retry_policy(retries: Retries) -> RetryPolicy:
    per_try = retries.per_try_timeout
    return RetryPolicy(
        retry_on=",".join(retries.retry_on),
        num_retries=uint32(retries.attempts),
        per_try_timeout=seconds(per_try) if per_try is not None else None,
        retry_host_predicate=[
            RetryPolicy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=pack(PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=3,
    )
