"""The HTTP filters of the listener and of the router (upstream filters), in order.

A new filter is one builder function and one entry in HTTP_FILTERS or UPSTREAM_FILTERS.
"""

from collections.abc import Callable
from typing import Final

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ExternalProcessorRouteCacheAction,
    HeaderForwardingRules,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

from sluice.config.gateway import MAX_CONVERSION_TIMEOUT, MAX_MESSAGE_TIMEOUT, Callout
from sluice.contract import headers
from sluice.contract.names import CALLOUT_CLUSTER
from xds.resources import (
    awaited_clusters,
    cors,
    credentials,
    extensions,
    failed_handshakes,
    grpc_bridge,
    header_mutations,
    local_rate_limit,
    mirror,
    omitted_callout,
    server_status,
)
from xds.resources.data_plane_messages import grpc_service, pack
from xds.resources.listener_settings import ListenerSettings
from xds.resources.proto_messages import seconds

MAX_WAIT = MAX_MESSAGE_TIMEOUT + MAX_CONVERSION_TIMEOUT
"""Seconds: the maximum of `override_message_timeout`, by which the callout extends the timeout of
one message. Envoy ignores a longer one. With the maxima of the config, Envoy accepts the values of
each policy during a change."""


def http_filters(
    settings: ListenerSettings, answers_readiness: bool, awaits_clusters: bool
) -> list[HttpFilter]:
    """The HttpConnectionManager's http_filters.

    CORS comes first, because its filter must see a request that another filter refuses. Rate limits
    come before the callout, to protect it. Probes of the readiness have no limit.
    """
    return [
        cors.cors_filter(),
        *([server_status.readiness_filter()] if answers_readiness else []),
        *local_rate_limit.http_filters(),
        *(builder(settings) for builder in HTTP_FILTERS),
        *([mirror.observing_filter()] if settings.callout.copies is not None else []),
        *([awaited_clusters.awaiting_filter()] if awaits_clusters else []),
        *(builder(settings) for builder in LAST_HTTP_FILTERS),
    ]


def copies_filters(settings: ListenerSettings) -> list[HttpFilter]:
    """The http_filters of the listener for copies of mirrored requests.

    HTTP/1.1 has no trailers, so the bridge writes the status of a gRPC call into headers.
    """
    bridge = grpc_bridge.bridge_filter()
    bridge.disabled = False
    return [bridge, _router(settings)]


def external_processor(callout: Callout, cluster: str = CALLOUT_CLUSTER) -> ExternalProcessor:
    """The config of the ext_proc filter, which calls the callout at the endpoints of `cluster`."""
    return ExternalProcessor(
        grpc_service=grpc_service(cluster),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        message_timeout=seconds(callout.message_timeout),
        max_message_timeout=seconds(MAX_WAIT),
        processing_mode=ProcessingMode(
            request_header_mode=ProcessingModeHeaderSendMode.SEND,
            response_header_mode=ProcessingModeHeaderSendMode.SKIP,
            request_body_mode=ProcessingModeBodySendMode.NONE,
            response_body_mode=ProcessingModeBodySendMode.NONE,
            request_trailer_mode=ProcessingModeHeaderSendMode.SKIP,
            response_trailer_mode=ProcessingModeHeaderSendMode.SKIP,
        ),
        allow_mode_override=True,
        # Envoy reads cluster_header when it matches the route. At that time the callout has not set
        # the header yet, so Envoy must match the route again.
        route_cache_action=ExternalProcessorRouteCacheAction.CLEAR,
        mutation_rules=HeaderMutationRules(allow_all_routing=True),
        # The headers with claims are for matchers of native routes. The callout reads the token.
        forward_rules=HeaderForwardingRules(
            disallowed_headers=ListStringMatcher(
                patterns=[StringMatcher(prefix=headers.INTERNAL_PREFIX)]
            )
        ),
        stat_prefix="callout",
    )


def _jwt(_: ListenerSettings) -> HttpFilter:
    """Before ext_proc, because native routes admit what the filter has verified."""
    return extensions.jwt_filter()


def _ext_proc(settings: ListenerSettings) -> HttpFilter:
    """The callout, which Envoy omits from requests that a native route admits."""
    omissible = omitted_callout.unless_omitted(external_processor(settings.callout))
    return HttpFilter(name=omitted_callout.EXT_PROC, typed_config=omissible)


def _origin(_: ListenerSettings) -> HttpFilter:
    return cors.origin_filter()


def _grpc_http1_bridge(_: ListenerSettings) -> HttpFilter:
    return grpc_bridge.bridge_filter()


def _failed_handshakes(settings: ListenerSettings) -> HttpFilter:
    """Next to the router, so it sees responses before all other filters."""
    return failed_handshakes.response_filter(settings.requests.expose_reason)


def _router(settings: ListenerSettings) -> HttpFilter:
    router = Router(
        suppress_envoy_headers=True,
        upstream_http_filters=[builder(settings) for builder in UPSTREAM_FILTERS],
    )
    return HttpFilter(name="envoy.filters.http.router", typed_config=pack(router))


def _header_mutations(_: ListenerSettings) -> HttpFilter:
    return header_mutations.at_model_server()


def _upstream_codec(_: ListenerSettings) -> HttpFilter:
    return credentials.upstream_codec()


def _body_length(_: ListenerSettings) -> HttpFilter:
    """Before ext_proc, so it sees responses after ext_proc."""
    return header_mutations.converted_responses()


FilterBuilder = Callable[[ListenerSettings], HttpFilter]

HTTP_FILTERS: Final[tuple[FilterBuilder, ...]] = (
    _origin,
    _body_length,
    _jwt,
    _ext_proc,
    _grpc_http1_bridge,
)
"""Filters of the listener, after the rate limits."""

LAST_HTTP_FILTERS: Final[tuple[FilterBuilder, ...]] = (_failed_handshakes, _router)
"""The last filters of the listener."""

UPSTREAM_FILTERS: Final[tuple[FilterBuilder, ...]] = (_header_mutations, _upstream_codec)
"""Upstream filters: between the router and the model server. The codec must be the last. Versions
with credentials have others (`credentials`), which must do the same."""
