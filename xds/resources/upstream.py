"""Settings that clusters share: the HTTP version towards endpoints, and load balancing."""

from envoy_data_plane.envoy.config.cluster.v3 import ClusterCommonLbConfig
from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    KeepaliveSettings,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HttpProtocolOptions as CommonHttpOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any as PackedMessage

from xds.resources.messages import pack

PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

STREAM_WINDOW, CONNECTION_WINDOW = 1 << 20, 1 << 24
"""HTTP/2 flow control windows in bytes: room for tensors of a megabyte."""


def http1(common: CommonHttpOptions | None = None) -> dict[str, PackedMessage]:
    """The `typed_extension_protocol_options` of a cluster that speaks HTTP/1.1."""
    explicit = HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
    return _options(common, explicit)


def http2(
    options: Http2ProtocolOptions, common: CommonHttpOptions | None = None
) -> dict[str, PackedMessage]:
    """The `typed_extension_protocol_options` of a cluster that speaks HTTP/2."""
    return _options(common, HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=options))


def large_windows(keepalive: KeepaliveSettings | None = None) -> Http2ProtocolOptions:
    """HTTP/2 for large messages. With `keepalive`, Envoy sends HTTP/2 pings."""
    return Http2ProtocolOptions(
        initial_stream_window_size=STREAM_WINDOW,
        initial_connection_window_size=CONNECTION_WINDOW,
        connection_keepalive=keepalive,
    )


def _options(
    common: CommonHttpOptions | None, explicit: HttpProtocolOptionsExplicitHttpConfig
) -> dict[str, PackedMessage]:
    options = HttpProtocolOptions(
        common_http_protocol_options=common, explicit_http_config=explicit
    )
    return {PROTOCOL_OPTIONS: pack(options)}


def without_panic() -> ClusterCommonLbConfig:
    """Disables panic mode, in which Envoy sends requests to unhealthy endpoints."""
    return ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0))
