"""The listener (LDS): how clients connect, and the filters that every request passes."""

from pathlib import Path

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation as Mutation,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutationRemoveOnMatch,
    HeaderMutationRules,
)
from envoy_data_plane.envoy.config.core.v3 import (
    CidrRange,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    RetryPolicy,
    TransportSocket,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain
from envoy_data_plane.envoy.config.listener.v3 import Listener as EnvoyListener
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ExternalProcessorRouteCacheAction,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.http.grpc_http1_bridge.v3 import (
    Config as GrpcBridge,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation as HeaderMutationFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import Mutations
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpConnectionManagerInternalAddressConfig,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

from sluice.config import GatewayConfig
from sluice.config.gateway import Callout, Listener, ListenerTls
from sluice.contract import headers, names
from xds.resources import local_rate_limit, telemetry
from xds.resources.local_replies import local_reply_config
from xds.resources.messages import address, from_ads, pack, seconds

EXT_PROC = "envoy.filters.http.ext_proc"
GRPC_BRIDGE = "envoy.filters.http.grpc_http1_bridge"

NOBODY = CidrRange(address_prefix="255.255.255.255", prefix_len=32)
"""No client has this address, so no client's x-envoy-* headers are believed as an internal one's.

An empty list would stand for every private address.
"""

MIN_WINDOW = 65_535
"""RFC 9113 section 6.9.2: the initial window; Envoy accepts none smaller."""


def listener(config: GatewayConfig, directory: Path) -> EnvoyListener:
    """The listener; TLS files are named relative to `directory`."""
    settings = config.listener
    chain = FilterChain(
        filters=[
            Filter(
                name="envoy.filters.network.http_connection_manager",
                typed_config=pack(_connection_manager(config)),
            )
        ]
    )
    if settings.tls is not None:
        chain.transport_socket = TransportSocket(
            name="envoy.transport_sockets.tls",
            typed_config=pack(_tls(settings.tls, directory)),
        )
    return EnvoyListener(
        name=names.LISTENER,
        address=address(settings.address),
        filter_chains=[chain],
        per_connection_buffer_limit_bytes=settings.stream_buffer_limit,
    )


def _connection_manager(config: GatewayConfig) -> HttpConnectionManager:
    settings = config.listener
    return HttpConnectionManager(
        codec_type=HttpConnectionManagerCodecType.AUTO,
        stat_prefix="gateway",
        rds=Rds(config_source=from_ads(), route_config_name=names.ROUTE_CONFIGURATION),
        http_filters=[
            local_rate_limit.http_filter(),
            HttpFilter(name=EXT_PROC, typed_config=pack(ext_proc(config.callout))),
            # Behind ext_proc: HTTP/1.1 has no trailers, so it shows the callout the status of a
            # converted call among the headers. Framing is the callout's, because the bridge's
            # upgrade_protobuf_to_grpc leaves it out for HTTP/2 clients (seen with Envoy 1.40).
            HttpFilter(name=GRPC_BRIDGE, typed_config=pack(GrpcBridge())),
            HttpFilter(
                name="envoy.filters.http.router",
                typed_config=pack(
                    Router(suppress_envoy_headers=True, upstream_http_filters=_of_answers())
                ),
            ),
        ],
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=seconds(settings.idle_timeout),
            headers_with_underscores_action=(
                HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST
            ),
        ),
        http2_protocol_options=_http2(settings),
        request_headers_timeout=seconds(settings.request_headers_timeout),
        use_remote_address=True,
        xff_num_trusted_hops=settings.trusted_hops,
        internal_address_config=HttpConnectionManagerInternalAddressConfig(cidr_ranges=[NOBODY]),
        early_header_mutation_extensions=[_strip_internal_headers()],
        # What is matched here is what is decided on, and what the model server sees.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=(
            HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST
        ),
        upgrade_configs=[
            HttpConnectionManagerUpgradeConfig(upgrade_type="websocket", enabled=False)
        ],
        local_reply_config=local_reply_config(config.requests.expose_reason),
        access_log=telemetry.access_logs(config.telemetry),
        tracing=telemetry.tracing(config.telemetry.tracing),
    )


def _http2(settings: Listener) -> Http2ProtocolOptions:
    window = max(MIN_WINDOW, min(settings.stream_buffer_limit, 2**31 - 1))
    return Http2ProtocolOptions(
        max_concurrent_streams=settings.max_concurrent_streams,
        initial_stream_window_size=window,
        initial_connection_window_size=min(4 * window, 2**31 - 1),
    )


def _strip_internal_headers() -> TypedExtensionConfig:
    """Removes what only Sluice may set, before any filter or route sees it."""
    removed = [
        StringMatcher(exact=headers.MODEL_SERVICE),
        StringMatcher(prefix=headers.INTERNAL_PREFIX),
    ]
    return TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=pack(HeaderMutation(mutations=_removals(removed))),
    )


def _of_answers() -> list[HttpFilter]:
    """Between the router and a model server: what only the gateway says is no server's to say.

    Here, because a route adds such headers to an answer before any filter of the listener sees it,
    and local replies, which those see too, come with them.
    """
    removals = _removals(
        [
            StringMatcher(prefix=headers.INTERNAL_PREFIX),
            *(StringMatcher(exact=name) for name in headers.RATE_LIMIT),
        ]
    )
    mutations = Mutations(response_mutations=removals, response_trailers_mutations=removals)
    return [
        HttpFilter(
            name="envoy.filters.http.header_mutation",
            typed_config=pack(HeaderMutationFilter(mutations=mutations)),
        ),
        HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=pack(UpstreamCodec())),
    ]


def _removals(matchers: list[StringMatcher]) -> list[Mutation]:
    return [
        Mutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=matcher))
        for matcher in matchers
    ]


def ext_proc(callout: Callout) -> ExternalProcessor:
    """The filter that asks the callout."""
    return ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=names.CALLOUT_CLUSTER),
            # What a worker that is killed or restarted leaves unanswered. `reset` stands for failed
            # connections too. Envoy reads this policy anew for every request: 1 us as it is, 3.5
            # with a back-off of its own instead of the usual 25 ms.
            retry_policy=RetryPolicy(retry_on="reset", num_retries=4),
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        message_timeout=seconds(callout.message_timeout),
        max_message_timeout=seconds(max(callout.message_timeout, MAX_MESSAGE_TIMEOUT)),
        processing_mode=ProcessingMode(
            request_header_mode=ProcessingModeHeaderSendMode.SEND,
            response_header_mode=ProcessingModeHeaderSendMode.SKIP,
            request_body_mode=ProcessingModeBodySendMode.NONE,
            response_body_mode=ProcessingModeBodySendMode.NONE,
            request_trailer_mode=ProcessingModeHeaderSendMode.SKIP,
            response_trailer_mode=ProcessingModeHeaderSendMode.SKIP,
        ),
        allow_mode_override=True,
        # Envoy reads a route's cluster_header when it matches the route, which it has done before
        # the callout has set that header: it must match again.
        route_cache_action=ExternalProcessorRouteCacheAction.CLEAR,
        mutation_rules=HeaderMutationRules(allow_all_routing=True),
        stat_prefix="callout",
    )


MAX_MESSAGE_TIMEOUT = 60.0
"""Seconds: how far the callout may extend the time for one message, such as a large body's."""


def _tls(tls: ListenerTls, directory: Path) -> DownstreamTlsContext:
    context = CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2),
        tls_certificates=[
            TlsCertificate(
                certificate_chain=_file(tls.certificate, directory),
                private_key=_file(tls.private_key, directory),
            )
        ],
        alpn_protocols=["h2", "http/1.1"],
    )
    if tls.client_ca is None:
        return DownstreamTlsContext(common_tls_context=context)
    context.validation_context = CertificateValidationContext(
        trusted_ca=_file(tls.client_ca, directory)
    )
    return DownstreamTlsContext(common_tls_context=context, require_client_certificate=True)


def _file(name: str, directory: Path) -> DataSource:
    return DataSource(filename=str((directory / name).resolve()))
