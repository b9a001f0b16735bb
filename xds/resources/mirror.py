"""Mirroring: Envoy shows the callout a share of the requests of a model, and sends its copies.

An ext_proc filter in observability mode next to the router sees requests as the model server gets
them, and responses as the model server sends them. Envoy waits for no response of the callout, so
neither the callout nor a copy delays a client. The route of a model enables the filter, also in
native routes, for a sample of its requests.

The callout sends the copies through a listener of its own, so that TLS, credentials, balancing and
health of the version are those of its cluster. This listener is a Unix socket that only the user of
Envoy can open, and has no log, so a copy is no request of a client.
"""

from typing import Final

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    HttpProtocolOptions,
    Pipe,
    SchemeHeaderTransformation,
)
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig as EnvoyExtension
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain
from envoy_data_plane.envoy.config.listener.v3 import Listener as EnvoyListener
from envoy_data_plane.envoy.config.route.v3 import (
    Route as EnvoyRoute,
)
from envoy_data_plane.envoy.config.route.v3 import (
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpFilter,
)
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as MatcherExtension
from envoy_data_plane.xds.type.matcher.v3 import Matcher as EnvoyMatcher
from envoy_data_plane.xds.type.matcher.v3 import MatcherOnMatch

from protos.core_pb2 import FractionalPercent, RuntimeFractionalPercent, TypedExtensionConfig
from protos.http_filters_pb2 import ExecuteFilterAction, ExtensionWithMatcherPerRoute
from protos.matcher_pb2 import Matcher
from protos.route_pb2 import Route
from sluice.config.mirror import Mirror
from sluice.contract import headers, names
from xds.resources.data_plane_messages import grpc_service, pack, pack_for_protos
from xds.resources.native.predicates import first_of, is_exactly
from xds.resources.proto_messages import extension, seconds
from xds.resources.proto_messages import pack as pack_proto

FILTER: Final = "sluice.mirror"

SOCKET_MODE: Final = 0o600
"""Only the user of Envoy may send copies: the listener checks no credentials."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds after the end of a request in which the callout may read what Envoy has sent to it."""

MAX_TIMEOUT: Final = 3600.0
"""Seconds after which Envoy ends a copy. The callout ends it after `mirror.timeout`."""


def observing_filter() -> HttpFilter:
    """The filter. Envoy omits it from requests whose route does not enable it."""
    skip = MatcherExtension(name="skip", typed_config=pack(SkipFilter()))
    config = ExtensionWithMatcher(
        extension_config=EnvoyExtension(
            name="envoy.filters.http.composite", typed_config=pack(Composite())
        ),
        xds_matcher=EnvoyMatcher(on_no_match=MatcherOnMatch(action=skip)),
    )
    return HttpFilter(name=FILTER, typed_config=pack(config), disabled=True)


def enable(route: Route, mirror: Mirror) -> None:
    """Show the callout a share of the `POST` requests of a route."""
    share = FractionalPercent(
        numerator=round(mirror.percent * 100), denominator=FractionalPercent.TEN_THOUSAND
    )
    action = ExecuteFilterAction(
        typed_config=_OBSERVER, sample_percent=RuntimeFractionalPercent(default_value=share)
    )
    posted = is_exactly(":method", "POST")
    create = Matcher.OnMatch(action=extension("create", action))
    route.typed_per_filter_config[FILTER].CopyFrom(
        pack_proto(ExtensionWithMatcherPerRoute(xds_matcher=first_of([(posted, create)])))
    )


_MARK: Final = f"%METADATA(VIRTUAL_HOST:{names.STAGE_NAMESPACE}:{names.STAGE_KEY})%"
"""The mark of the routes; without one, Envoy sends no metadata."""


def _observer() -> ExternalProcessor:
    """The ext_proc filter in observability mode."""
    send = ProcessingModeHeaderSendMode.SEND
    return ExternalProcessor(
        grpc_service=grpc_service(names.CALLOUT_CLUSTER, **{headers.STAGE_METADATA: _MARK}),
        observability_mode=True,
        failure_mode_allow=True,
        deferred_close_timeout=seconds(CLOSE_TIMEOUT),
        request_attributes=[names.ROUTE_ATTRIBUTE, names.CLUSTER_ATTRIBUTE],
        processing_mode=ProcessingMode(
            request_header_mode=send,
            response_header_mode=send,
            request_body_mode=ProcessingModeBodySendMode.STREAMED,
            response_body_mode=ProcessingModeBodySendMode.STREAMED,
            request_trailer_mode=ProcessingModeHeaderSendMode.SKIP,
            response_trailer_mode=send,
        ),
        stat_prefix="mirror",
    )


_OBSERVER: Final = TypedExtensionConfig(
    name="sluice.observer", typed_config=pack_for_protos(_observer())
)


def copies_listener(socket: str, filters: list[HttpFilter]) -> EnvoyListener:
    """The listener for copies on a Unix socket (`unix:/path`). Each names its cluster in a header.

    `filters`: those of the listener of clients that a copy needs, too.
    """
    action = RouteAction(
        cluster_header=headers.MODEL_SERVICE,
        cluster_not_found_response_code=(
            RouteActionClusterNotFoundResponseCode.SERVICE_UNAVAILABLE
        ),
        timeout=seconds(MAX_TIMEOUT),
    )
    host = VirtualHost(
        name=names.COPIES_LISTENER,
        domains=["*"],
        routes=[EnvoyRoute(match=RouteMatch(prefix="/"), route=action)],
    )
    manager = HttpConnectionManager(
        codec_type=HttpConnectionManagerCodecType.HTTP1,
        stat_prefix="copies",
        route_config=RouteConfiguration(name=names.COPIES_LISTENER, virtual_hosts=[host]),
        # A copy may have more headers than the request, which kept the limits.
        common_http_protocol_options=HttpProtocolOptions(max_headers_count=2 * headers.MAX_HEADERS),
        max_request_headers_kb=2 * headers.MAX_HEADERS_KIB,
        scheme_header_transformation=SchemeHeaderTransformation(match_upstream=True),
        http_filters=filters,
    )
    return EnvoyListener(
        name=names.COPIES_LISTENER,
        address=Address(pipe=Pipe(path=socket.removeprefix("unix:"), mode=SOCKET_MODE)),
        # Copies take no connections from clients (`envoy.max_connections`).
        ignore_global_conn_limit=True,
        filter_chains=[
            FilterChain(
                filters=[
                    Filter(
                        name="envoy.filters.network.http_connection_manager",
                        typed_config=pack(manager),
                    )
                ]
            )
        ],
    )
