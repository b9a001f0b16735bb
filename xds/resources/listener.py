"""The listener (LDS): addresses, TLS and HTTP settings towards clients."""

from pathlib import Path
from typing import Final

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    CidrRange,
    ConfigSource,
    DataSource,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    SchemeHeaderTransformation,
    TransportSocket,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, ListenerFilter
from envoy_data_plane.envoy.config.listener.v3 import Listener as EnvoyListener
from envoy_data_plane.envoy.extensions.filters.listener.http_inspector.v3 import HttpInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpConnectionManagerInternalAddressConfig,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
)

from sluice.config.gateway import Listener
from sluice.config.listener_tls import ListenerTls
from sluice.contract import headers, names
from xds.resources import header_mutations, telemetry
from xds.resources.data_plane_messages import of_protos, pack
from xds.resources.filters import http_filters
from xds.resources.listener_settings import ListenerSettings
from xds.resources.local_replies import local_reply_config
from xds.resources.proto_messages import address, from_ads, seconds

NO_CLIENT = CidrRange(address_prefix="255.255.255.255", prefix_len=32)
"""An address that no client has, so Envoy treats no client as internal.

Envoy trusts the x-envoy-* headers of internal clients. An empty list would make every client with a
private address internal.
"""

MIN_WINDOW = 65_535
"""Bytes: the initial HTTP/2 window (RFC 9113 section 6.9.2). Envoy accepts no smaller window."""

MAX_WINDOW = 2**31 - 1
"""Bytes: the largest HTTP/2 window (RFC 9113 section 6.9.1)."""

MAX_READ = 1 << 16
"""Bytes that Envoy reads at once from one connection, before it serves other connections.

A read can contain one chunk of HTTP/1.1 in 6 bytes, and Envoy parses all of them without a pause.
This is also the largest buffer of an HTTP/1.1 stream whose route sets none; the windows of HTTP/2
do not depend on it.
"""

_UNDERSCORES: Final = {
    "reject": HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST,
    "drop": HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
    "allow": HttpProtocolOptionsHeadersWithUnderscoresAction.ALLOW,
}


def listener(
    settings: ListenerSettings,
    directory: Path,
    *,
    answers_readiness: bool,
    awaits_clusters: bool = True,
) -> EnvoyListener:
    """The listener. TLS file names in the settings are relative to `directory`.

    `answers_readiness`: whether the path of the readiness belongs to no model. `awaits_clusters`:
    whether the Envoys can hold a request until they have its cluster.
    """
    own = settings.listener
    filters = http_filters(settings, answers_readiness, awaits_clusters)
    chain = FilterChain(
        filters=[
            Filter(
                name="envoy.filters.network.http_connection_manager",
                typed_config=pack(_connection_manager(settings, filters)),
            )
        ]
    )
    if own.tls is not None:
        chain.transport_socket = TransportSocket(
            name="envoy.transport_sockets.tls",
            typed_config=pack(_tls(own.tls, directory)),
        )
        chain.transport_socket_connect_timeout = seconds(own.handshake_timeout)
    return EnvoyListener(
        name=names.LISTENER,
        address=of_protos(Address, address(own.address)),
        filter_chains=[chain],
        # A client can open many connections and fill each with frames of a few bytes. Envoy would
        # parse them all before it serves a connection again; the others wait in the kernel.
        max_connections_to_accept_per_socket_event=1,
        per_connection_buffer_limit_bytes=min(own.stream_buffer_limit, MAX_READ),
        listener_filters=[] if own.tls else [_http_inspector()],
        # Envoy closes connections that the listener filters have not passed in this time.
        listener_filters_timeout=seconds(own.handshake_timeout),
    )


def _http_inspector() -> ListenerFilter:
    """Holds back a connection until its first line has arrived.

    After that, `request_headers_timeout` applies. Without TLS and this filter, a connection that
    sends nothing would be kept for `idle_timeout`.
    """
    return ListenerFilter(
        name="envoy.filters.listener.http_inspector", typed_config=pack(HttpInspector())
    )


def _connection_manager(
    settings: ListenerSettings, filters: list[HttpFilter]
) -> HttpConnectionManager:
    own = settings.listener
    return HttpConnectionManager(
        codec_type=HttpConnectionManagerCodecType.AUTO,
        stat_prefix=names.LISTENER,
        rds=Rds(
            config_source=of_protos(ConfigSource, from_ads()),
            route_config_name=names.ROUTE_CONFIGURATION,
        ),
        http_filters=filters,
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=seconds(own.idle_timeout),
            max_headers_count=headers.MAX_HEADERS,
            headers_with_underscores_action=_UNDERSCORES[own.headers_with_underscores],
        ),
        max_request_headers_kb=headers.MAX_HEADERS_KIB,
        http2_protocol_options=_http2(own),
        request_headers_timeout=seconds(own.request_headers_timeout),
        use_remote_address=True,
        xff_num_trusted_hops=own.trusted_hops,
        internal_address_config=HttpConnectionManagerInternalAddressConfig(cidr_ranges=[NO_CLIENT]),
        early_header_mutation_extensions=[
            header_mutations.from_requests(own.headers_with_underscores == "allow")
        ],
        # Over TLS, some servers refuse requests whose scheme is http.
        scheme_header_transformation=SchemeHeaderTransformation(match_upstream=True),
        # Routes, the callout and the model server must see the same path.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=(
            HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST
        ),
        upgrade_configs=[
            HttpConnectionManagerUpgradeConfig(upgrade_type="websocket", enabled=False)
        ],
        local_reply_config=local_reply_config(settings.requests.expose_reason),
        access_log=telemetry.access_logs(settings.telemetry),
        tracing=telemetry.tracing(settings.telemetry.tracing),
    )


def _http2(settings: Listener) -> Http2ProtocolOptions:
    window = max(MIN_WINDOW, min(settings.stream_buffer_limit, MAX_WINDOW))
    return Http2ProtocolOptions(
        max_concurrent_streams=settings.max_concurrent_streams,
        initial_stream_window_size=window,
        initial_connection_window_size=min(4 * window, MAX_WINDOW),
    )


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
