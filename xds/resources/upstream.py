"""Settings that clusters share: the HTTP version towards endpoints, and load balancing."""

from collections.abc import Iterable
from math import ceil

from google.protobuf.any_pb2 import Any as PackedMessage

from protos.cluster_pb2 import (
    Cluster,
    CommonHttpOptions,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpFilter,
    KeepaliveSettings,
    OutlierDetection,
    UpstreamHttpOptions,
)
from protos.core_pb2 import Percent
from protos.route_pb2 import RetryPolicy
from xds.resources.proto_messages import pack, seconds, uint32

PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

STREAM_WINDOW, CONNECTION_WINDOW = 1 << 20, 1 << 24
"""HTTP/2 flow control windows in bytes: room for tensors of a megabyte."""

_MAX_FRAME_SIZE = 5
"""SETTINGS_MAX_FRAME_SIZE (RFC 9113 section 6.5.2)."""

_CALLOUT_FRAME_SIZE = 64 << 10
"""Bytes of a frame of the callout: each frame takes the time of a worker, and streams take turns
frame by frame."""


def http1(
    common: CommonHttpOptions | None = None, filters: Iterable[HttpFilter] = ()
) -> dict[str, PackedMessage]:
    """The `typed_extension_protocol_options` of a cluster that speaks HTTP/1.1.

    `filters` replace the upstream filters of the router.
    """
    explicit = UpstreamHttpOptions.ExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
    return _options(common, explicit, filters=filters)


def http2(
    options: Http2ProtocolOptions,
    common: CommonHttpOptions | None = None,
    retries: RetryPolicy | None = None,
    filters: Iterable[HttpFilter] = (),
) -> dict[str, PackedMessage]:
    """The `typed_extension_protocol_options` of a cluster that speaks HTTP/2.

    `retries` replace those of routes and of gRPC services, and `filters` the upstream filters of
    the router.
    """
    explicit = UpstreamHttpOptions.ExplicitHttpConfig(http2_protocol_options=options)
    return _options(common, explicit, retries, filters)


def large_windows() -> Http2ProtocolOptions:
    """HTTP/2 for large messages."""
    return Http2ProtocolOptions(
        initial_stream_window_size=uint32(STREAM_WINDOW),
        initial_connection_window_size=uint32(CONNECTION_WINDOW),
    )


def large_messages_of_callout(keepalive: KeepaliveSettings) -> Http2ProtocolOptions:
    """The same for the callout, which may also send larger frames. Envoy sends HTTP/2 pings."""
    options = large_windows()
    options.connection_keepalive.CopyFrom(keepalive)
    options.custom_settings_parameters.add(
        identifier=uint32(_MAX_FRAME_SIZE), value=uint32(_CALLOUT_FRAME_SIZE)
    )
    return options


def _options(
    common: CommonHttpOptions | None,
    explicit: UpstreamHttpOptions.ExplicitHttpConfig,
    retries: RetryPolicy | None = None,
    filters: Iterable[HttpFilter] = (),
) -> dict[str, PackedMessage]:
    options = UpstreamHttpOptions(
        common_http_protocol_options=common,
        explicit_http_config=explicit,
        retry_policy=retries,
        http_filters=filters,
    )
    return {PROTOCOL_OPTIONS: pack(options)}


def ejection(servers: int, interval: float, time: float) -> OutlierDetection:
    """Ejects one of our own servers after a single failed connection, for `time` seconds.

    `interval`: seconds after which Envoy looks again for servers whose ejection has ended.
    """
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=uint32(1),
        enforcing_consecutive_local_origin_failure=uint32(100),
        # A status that the server returns says nothing about its health.
        enforcing_consecutive_5xx=uint32(0),
        enforcing_consecutive_gateway_failure=uint32(0),
        enforcing_success_rate=uint32(0),
        enforcing_local_origin_success_rate=uint32(0),
        interval=seconds(interval),
        base_ejection_time=seconds(time),
        max_ejection_time=seconds(time),
        # Envoy ejects all servers but one. If all are silent for a moment, for example while they
        # apply a very large config, requests wait for the last one instead of being refused.
        # Envoy compares the exact percentage after an ejection with this integer: so round up.
        max_ejection_percent=uint32(ceil(100 * (servers - 1) / servers)),
    )


def without_panic() -> Cluster.CommonLbConfig:
    """Disables panic mode, in which Envoy sends requests to unhealthy endpoints."""
    return Cluster.CommonLbConfig(healthy_panic_threshold=Percent(value=0))
