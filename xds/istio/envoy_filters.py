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

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    ExtensionFilter,
    HeaderFilter,
    OrFilter,
)
from envoy_data_plane.envoy.config.core.v3 import ApiVersion
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
    HttpFilter,
)
from envoy_data_plane.google.protobuf import Any as PackedMessage

from sluice.config import GatewayConfig
from sluice.config.addresses import split_host_port
from sluice.config.istio import Istio, Workload
from sluice.contract import headers
from sluice.contract.names import UNDECIDED_ROUTE
from xds.istio.documents import Json, named_workloads
from xds.istio.envoy_patches import (
    UNDECIDED,
    callout_patch,
    connections_patch,
    envoy_filter,
    http_filter_patch,
    patch,
)
from xds.resources import grpc_bridge, header_mutations, routes, telemetry
from xds.resources.data_plane_messages import grpc_service, pack
from xds.resources.filters import external_processor
from xds.resources.proto_messages import seconds
from xds.static.messages import message_json

NAME: Final = "sluice-callout"
"""The name of the EnvoyFilter. Further ones in a namespace get a number."""

_ROUTER: Final = "envoy.filters.http.router"

_CALLOUT: Final = "sluice.callout"
_BRIDGE: Final = "sluice.grpc_http1_bridge"
_LIMIT: Final = "sluice.rate_limit"
_MODEL_SERVER: Final = "sluice.model_server"
"""Names of filters. The names of Envoy's filters may be those of other EnvoyFilters."""

_STAGE: Final = 10
"""The stage of our descriptors: the rate limits of other EnvoyFilters have other ones."""


def envoy_filters(config: GatewayConfig, istio: Istio) -> list[Json]:
    """An EnvoyFilter for each workload, as Kubernetes objects."""
    return [
        envoy_filter(name, workload, _patches(config, istio, workload))
        for name, workload in named_workloads(istio, NAME)
    ]


def cluster_name(address: str) -> str:
    """Istio's name of the cluster of a service."""
    host, port = split_host_port(address)
    return f"outbound|{port}||{host}"


def _patches(config: GatewayConfig, istio: Istio, workload: Workload) -> Iterator[Json]:
    cluster = cluster_name(istio.callout)
    yield connections_patch(workload, _reports(config, cluster))
    filters = list(_http_filters(config, istio, cluster))
    for each, _ in filters:
        value = message_json(HttpFilter, bytes(each))
        yield http_filter_patch(workload, _ROUTER, "INSERT_BEFORE", value)
    settings = _virtual_host(config, istio, {each.name: enabling for each, enabling in filters})
    for domain in istio.hosts:
        match: Json = {"routeConfiguration": {"vhost": {"domainName": domain}}}
        yield patch(workload, "VIRTUAL_HOST", match, "MERGE", settings)
    match = {"routeConfiguration": {"vhost": {"route": {"name": UNDECIDED_ROUTE}}}}
    yield patch(workload, "HTTP_ROUTE", match, "MERGE", _route())
    yield callout_patch(istio, workload)


def _reports(config: GatewayConfig, cluster: str) -> Iterator[AccessLog]:
    """The access log that reports finished requests to the callout."""
    reports = config.telemetry.reports
    if reports.enabled:
        yield AccessLog(
            name="envoy.access_loggers.open_telemetry",
            filter=_about_models(),
            typed_config=pack(telemetry.report_logger(reports, cluster)),
        )


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
