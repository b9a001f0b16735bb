"""Routes (RDS): timeouts, retries, upgrades and limits of each model's requests.

These routes read the cluster from a request header that only the callout can set. `route_table`
finds the route of a request, and `native` builds those with which Envoy decides alone.
"""

from collections.abc import Iterable

from google.protobuf.any_pb2 import Any as AnyMessage

from protos.matcher_pb2 import RegexMatcher, StringMatcher
from protos.route_pb2 import (
    DirectResponseAction,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from sluice.config import GatewayConfig, Model
from sluice.config.gateway import Requests
from sluice.config.models import Retries
from sluice.config.values import READ_METHODS
from sluice.contract import headers, names
from xds.protocol.wire import Parts, field
from xds.resources import (
    cors,
    failed_handshakes,
    grpc_bridge,
    header_mutations,
    local_rate_limit,
    mirror,
)
from xds.resources.local_rate_limit import ModelLimits
from xds.resources.omitted_callout import EXT_PROC
from xds.resources.proto_messages import boolean, disabled, seconds, serialized
from xds.resources.retries import retry_policy


def route_configuration(config: GatewayConfig, matcher: Parts, removed: Iterable[str]) -> Parts:
    """The serialized route table of the listener, with this matcher (`route_table`).

    The request headers `removed` do not reach model servers.
    """
    # Models have different paths, not different hosts.
    host = VirtualHost(
        name=names.ROUTE_CONFIGURATION,
        domains=["*"],
        typed_per_filter_config=local_rate_limit.virtual_host_config(config.limits),
        retry_policy=retry_policy(Retries()),
    )
    table = RouteConfiguration(
        name=names.ROUTE_CONFIGURATION,
        response_headers_to_add=header_mutations.copied_to_responses(
            reason=config.requests.expose_reason,
            limits=bool(config.limits.rules) and config.limits.headers,
        ),
        request_headers_to_remove=removed,
    )
    return _table(serialized(table), serialized(host), *field(_MATCHER, *matcher))


def marked(table: Parts, version: str, callout: AnyMessage) -> Parts:
    """The route table with the mark of the staged config of this version.

    `table`: as `route_configuration` returns it. `callout`: the config of the filter that calls the
    callout, for requests without another one in their route.
    """
    rest, _, *host = table
    mark = VirtualHost(typed_per_filter_config={EXT_PROC: callout})
    mark.metadata.filter_metadata[names.STAGE_NAMESPACE].update({names.STAGE_KEY: version})
    # Serialized messages of a type, one after another, are the message with the fields of all.
    return _table(rest, serialized(mark), *host)


def _table(rest: bytes, *host: bytes) -> Parts:
    """A route table with one virtual host."""
    return [rest, *field(_VIRTUAL_HOSTS, *host)]


_MATCHER = 21
"""Field number of VirtualHost.matcher."""

_VIRTUAL_HOSTS = 2
"""Field number of RouteConfiguration.virtual_hosts."""


def callout_route(name: str, model: Model, requests: Requests, limits: ModelLimits) -> Route:
    """The route of a model's requests that the callout decides. The matcher tree has found it.

    `requests` applies where the model sets nothing else.
    """
    action = _action()
    action.timeout.FromTimedelta(seconds(model.timeout))
    action.idle_timeout.FromTimedelta(seconds(model.idle_timeout))
    # Routes without a policy have that of the virtual host: the default of the config.
    if model.retries != Retries():
        action.retry_policy.CopyFrom(retry_policy(model.retries))
    if model.websocket:
        action.upgrade_configs.add(upgrade_type="websocket", enabled=boolean(True))
    route = Route(
        name=name,
        match=RouteMatch(prefix="/"),
        route=action,
        metadata=local_rate_limit.metadata(name, model, limits),
    )
    cors.allow_origins(route, requests.cors_of(model), model.methods)
    if model.websocket:
        failed_handshakes.enable(route)
    if model.mirror is not None and model.mirror.percent:
        mirror.enable(route, model.mirror)
    if model.converts:
        route.request_body_buffer_limit.value = buffer_limit(model, requests)
        header_mutations.set_lengths(route)
        grpc_bridge.enable(route)
    return route


def decided_routes(route: Route, retries: Retries) -> list[Route]:
    """The routes of a model's requests after the decision. `route`: the model's callout route.

    Envoy matches the route again after the decision (see the ext_proc filter).
    """
    if not (retries.reads and retries.attempts):
        return [route]
    reads = Route()
    reads.CopyFrom(route)
    method = StringMatcher(safe_regex=RegexMatcher(regex="|".join(READ_METHODS)))
    reads.match.headers.add(name=":method", string_match=method)
    reads.route.retry_policy.CopyFrom(retry_policy(retries))
    reads.route.retry_policy.retry_on = ",".join((*retries.retry_on, "reset"))
    return [reads, route]


def fallback_routes() -> list[Route]:
    """The last routes: requests for no model, which the callout refuses.

    A CONNECT request has no path, so `prefix: /` does not match it. Without a route, the request
    would reach the callout without any rate limit. With this route, which allows no tunnels, Envoy
    refuses the request before all filters.
    """
    matches = (RouteMatch(connect_matcher=RouteMatch.ConnectMatcher()), RouteMatch(prefix="/"))
    routes = [Route(name=names.OTHER, match=match, route=_action()) for match in matches]
    for route in routes:
        grpc_bridge.enable(route)
    return routes


def not_served_route() -> Route:
    """The route of requests for a model that this Envoy does not serve: it answers 404.

    The callout would admit them, because its policy has all models. Envoy's local reply has the
    reason of an unknown model (`sluice.contract.local_replies`).
    """
    return Route(
        name=names.OTHER,
        match=RouteMatch(prefix="/"),
        direct_response=DirectResponseAction(status=404),
        typed_per_filter_config=dict.fromkeys((EXT_PROC, names.JWT_FILTER), disabled()),
    )


def buffer_limit(model: Model, requests: Requests) -> int:
    """Bytes of a body that Envoy buffers for conversion.

    Despite its name, Envoy's limit applies to responses too. The callout enforces the exact limits.
    """
    return max(requests.max_body_of(model), requests.max_response_of(model) + _GRPC_PREFIX)


_GRPC_PREFIX = 5
"""Bytes before a gRPC message."""


def _action() -> RouteAction:
    return RouteAction(
        cluster_header=headers.MODEL_SERVICE,
        cluster_not_found_response_code=RouteAction.SERVICE_UNAVAILABLE,
    )
