"""EnvoyFilters: an Envoy of the mesh asks the callout about the requests for models.

The filters are those of our own Envoy (`xds.resources.filters`). An ingress gateway may serve other
applications too, so each filter is disabled, and the virtual hosts of the models enable it. Only
the removal of internal headers is for all requests of the workload.

Each patch may fail alone, for example if istiod does not know a field. So no patch relies on the
removal: the callout decides about every request for the models' hosts, also about one whose headers
match the route of a decided request.
"""

from collections.abc import Iterator
from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    ExtensionFilter,
    HeaderFilter,
    OrFilter,
)
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import ApiVersion, TypedExtensionConfig
from envoy_data_plane.envoy.config.ratelimit.v3 import RateLimitServiceConfig
from envoy_data_plane.envoy.config.route.v3 import (
    FilterConfig,
    HeaderMatcher,
    RateLimit,
    RateLimitAction,
    RateLimitActionRemoteAddress,
    RateLimitActionRequestHeaders,
    Route,
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthz
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExtProcOverrides,
    ExtProcPerRoute,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation,
    HeaderMutationPerRoute,
)
from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import RateLimit as RateLimitFilter
from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import RateLimitPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.google.protobuf import Any as PackedMessage

from sluice.config import GatewayConfig
from sluice.config.addresses import split_host_port
from sluice.config.istio import Istio, Workload
from sluice.contract import headers
from sluice.contract.names import UNDECIDED_ROUTE
from xds.istio.documents import Json, metadata, named_workloads
from xds.resources import callout_cluster, grpc_bridge, header_mutations, routes, telemetry
from xds.resources.data_plane_messages import grpc_service, pack
from xds.resources.filters import external_processor
from xds.resources.proto_messages import seconds, serialized
from xds.static.messages import message_json

NAME: Final = "sluice-callout"
"""The name of the EnvoyFilter. Further ones in a namespace get a number."""

AUTHORIZING_NAME: Final = "sluice-ext-authz"
"""The name of the EnvoyFilter for policies."""

UNDECIDED: Final = f"xds.route_name == '{UNDECIDED_ROUTE}'"
"""Whether a request has no decision (CEL)."""

_EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
_HTTP: Final = "envoy.filters.network.http_connection_manager"
_ROUTER: Final = "envoy.filters.http.router"

_CALLOUT: Final = "sluice.callout"
_BRIDGE: Final = "sluice.grpc_http1_bridge"
_LIMIT: Final = "sluice.rate_limit"
_MODEL_SERVER: Final = "sluice.model_server"
"""Names of filters. The names of Envoy's filters may be those of other EnvoyFilters."""

_STAGE: Final = 10
"""The stage of our descriptors: the rate limits of other EnvoyFilters have other ones."""

_WORKERS: Final = 100
"""Pods of the callout that the settings of its cluster assume: all but one may be ejected."""

_CONTEXTS: Final = {"gateway": "GATEWAY", "sidecar": "SIDECAR_OUTBOUND"}


def envoy_filters(config: GatewayConfig, istio: Istio) -> list[Json]:
    """An EnvoyFilter for each workload, as Kubernetes objects."""
    return [
        _envoy_filter(name, workload, list(_patches(config, istio, workload)))
        for name, workload in named_workloads(istio, NAME)
    ]


def authorizing_filters(istio: Istio) -> Iterator[Json]:
    """An EnvoyFilter for each workload that asks the callout by a policy (ext_authz).

    Istiod does not let Envoy match the route again after the policy: it ignores `clearRouteCache`
    of the provider (Istio 1.31). Without this filter, all requests are refused: the callout refuses
    those that name a service themselves.
    """
    for name, workload in named_workloads(istio, AUTHORIZING_NAME):
        context = _CONTEXTS[workload.kind]
        removal = HttpConnectionManager(early_header_mutation_extensions=[_removal()])
        authorizer: Json = {"name": _HTTP, "subFilter": {"name": _EXT_AUTHZ}}
        again = _packed_json(ExtAuthz, ExtAuthz(clear_route_cache=True))
        patches = [
            _patch(
                "NETWORK_FILTER",
                {"context": context, "listener": {"filterChain": {"filter": {"name": _HTTP}}}},
                "MERGE",
                {"typed_config": _packed_json(HttpConnectionManager, removal)},
            ),
            _patch(
                "HTTP_FILTER",
                {"context": context, "listener": {"filterChain": {"filter": authorizer}}},
                "MERGE",
                {"name": _EXT_AUTHZ, "typed_config": again},
            ),
            _callout_patch(istio, context),
        ]
        yield _envoy_filter(name, workload, patches)


def _envoy_filter(name: str, workload: Workload, patches: list[Json]) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": metadata(name, workload.namespace),
        "spec": {
            "workloadSelector": {"labels": dict(workload.labels)},
            "configPatches": patches,
        },
    }


def cluster_name(address: str) -> str:
    """Istio's name of the cluster of a service."""
    host, port = split_host_port(address)
    return f"outbound|{port}||{host}"


def _patches(config: GatewayConfig, istio: Istio, workload: Workload) -> Iterator[Json]:
    context = _CONTEXTS[workload.kind]
    cluster = cluster_name(istio.callout)
    connections: Json = {"filterChain": {"filter": {"name": _HTTP}}}
    yield _patch(
        "NETWORK_FILTER",
        {"context": context, "listener": connections},
        "MERGE",
        {"typed_config": _packed_json(HttpConnectionManager, _connection_manager(config, cluster))},
    )
    router: Json = {"name": _HTTP, "subFilter": {"name": _ROUTER}}
    before_router: Json = {"filterChain": {"filter": router}}
    filters = list(_http_filters(config, istio, cluster))
    for each, _ in filters:
        value = message_json(HttpFilter, bytes(each))
        match = {"context": context, "listener": before_router}
        yield _patch("HTTP_FILTER", match, "INSERT_BEFORE", value)
    settings = _virtual_host(config, istio, {each.name: enabling for each, enabling in filters})
    for domain in istio.hosts:
        match = {"context": context, "routeConfiguration": {"vhost": {"domainName": domain}}}
        yield _patch("VIRTUAL_HOST", match, "MERGE", settings)
    undecided: Json = {"vhost": {"route": {"name": UNDECIDED_ROUTE}}}
    match = {"context": context, "routeConfiguration": undecided}
    yield _patch("HTTP_ROUTE", match, "MERGE", _route())
    yield _callout_patch(istio, context)


def _patch(kind: str, match: Json, operation: str, value: Json) -> Json:
    return {
        "applyTo": kind,
        "match": match,
        "patch": {"operation": operation, "value": value},
    }


def _packed_json(kind: type[betterproto2.Message], message: betterproto2.Message) -> Json:
    """A message of this type as the JSON of a google.protobuf.Any."""
    return {"@type": pack(message).type_url, **message_json(kind, bytes(message))}


def _connection_manager(config: GatewayConfig, cluster: str) -> HttpConnectionManager:
    """What is added to the HTTP settings of listeners."""
    reports = config.telemetry.reports
    logs = []
    if reports.enabled:
        logger = telemetry.report_logger(reports, cluster)
        logs.append(
            AccessLog(
                name="envoy.access_loggers.open_telemetry",
                filter=_about_models(),
                typed_config=pack(logger),
            )
        )
    return HttpConnectionManager(early_header_mutation_extensions=[_removal()], access_log=logs)


def _removal() -> TypedExtensionConfig:
    """Removes internal headers of clients. An Envoy of the mesh accepts names with underscores."""
    return header_mutations.from_requests(with_underscores=True)


def _about_models() -> AccessLogFilter:
    """Only requests for models: those with a decision, and those that were refused."""
    decided = HeaderMatcher(name=headers.MODEL_SERVICE, present_match=True)
    undecided = ExpressionFilter(expression=UNDECIDED)
    return AccessLogFilter(
        or_filter=OrFilter(
            filters=[
                AccessLogFilter(header_filter=HeaderFilter(header=decided)),
                AccessLogFilter(
                    extension_filter=ExtensionFilter(
                        name="envoy.access_loggers.extension_filters.cel",
                        typed_config=pack(undecided),
                    )
                ),
            ]
        )
    )


def _http_filters(
    config: GatewayConfig, istio: Istio, cluster: str
) -> Iterator[tuple[HttpFilter, PackedMessage]]:
    """The filters in the order of a request, each with the config of a route that enables it.

    In our own Envoy, an empty `Any` enables a filter. Istiod does not accept one, so these are
    empty configs of the filters.
    """
    unchanged = pack(HeaderMutationPerRoute())
    yield header_mutations.converted_responses(), unchanged
    callout = external_processor(config.callout, cluster)
    yield (
        HttpFilter(name=_CALLOUT, typed_config=pack(callout), disabled=True),
        pack(ExtProcPerRoute(overrides=ExtProcOverrides())),
    )
    if istio.rate_limit_domain is not None:
        limit = _rate_limit(config, istio.rate_limit_domain, cluster)
        yield limit, pack(RateLimitPerRoute())
    bridge = grpc_bridge.bridge_filter()
    bridge.name = _BRIDGE
    assert bridge.typed_config is not None
    # The bridge has no config for routes. Envoy ignores this one, and enables the filter.
    yield bridge, pack(FilterConfig(config=bridge.typed_config, is_optional=True))
    changed = HeaderMutation(mutations=header_mutations.next_to_router())
    yield HttpFilter(name=_MODEL_SERVER, typed_config=pack(changed), disabled=True), unchanged


def _rate_limit(config: GatewayConfig, domain: str, cluster: str) -> HttpFilter:
    """Asks the rate limit service after the decision, whose headers are the descriptors."""
    service = RateLimitServiceConfig(
        grpc_service=grpc_service(cluster), transport_api_version=ApiVersion.V3
    )
    limit = RateLimitFilter(
        domain=domain,
        stage=_STAGE,
        timeout=seconds(config.callout.message_timeout),
        failure_mode_deny=True,
        rate_limit_service=service,
    )
    return HttpFilter(name=_LIMIT, typed_config=pack(limit), disabled=True)


def _virtual_host(config: GatewayConfig, istio: Istio, enabling: dict[str, PackedMessage]) -> Json:
    """What is added to the virtual hosts with the routes of all models."""
    host = VirtualHost(typed_per_filter_config=enabling)
    models = [each for each in config.models.values() if each.converts]
    buffered = [routes.buffer_limit(each, config.requests) for each in models]
    if buffered:
        host.request_body_buffer_limit = max(buffered)
    if istio.rate_limit_domain is not None:
        host.rate_limits = _descriptors()
    return message_json(VirtualHost, bytes(host))


def _descriptors() -> list[RateLimit]:
    """The descriptors of a decided request."""
    subject, model = (
        RateLimitAction(
            request_headers=RateLimitActionRequestHeaders(header_name=name, descriptor_key=key)
        )
        for name, key in ((headers.SUBJECT, "subject"), (headers.MODEL, "model"))
    )
    address = RateLimitAction(remote_address=RateLimitActionRemoteAddress())
    return [
        RateLimit(stage=_STAGE, actions=actions)
        for actions in ([subject], [model], [subject, model], [address])
    ]


def _route() -> Json:
    """What is changed of the route of requests without a decision, which is the first of each.

    The limit of buffers is that of the first route, but of no route with a direct response. So the
    route names a cluster that does not exist: Envoy answers 503, as the direct response does.
    """
    nowhere = RouteAction(
        cluster=UNDECIDED_ROUTE,
        cluster_not_found_response_code=RouteActionClusterNotFoundResponseCode.SERVICE_UNAVAILABLE,
    )
    return message_json(Route, bytes(Route(route=nowhere)))


def _callout_patch(istio: Istio, context: str) -> Json:
    """The settings of the cluster by which no request fails because a worker ends.

    Without the circuit breakers: those of a mesh have no limits, unless a DestinationRule has some.
    """
    settings = callout_cluster.settings(_WORKERS)
    settings.ClearField("circuit_breakers")
    host, port = split_host_port(istio.callout)
    match = {"context": context, "cluster": {"service": host, "portNumber": int(port)}}
    return _patch("CLUSTER", match, "MERGE", message_json(Cluster, serialized(settings)))
