"""Clusters (CDS) of models: one for each version."""

from typing import Final

from google.protobuf.any_pb2 import Any as PackedMessage

from protos import cluster_pb2
from protos.cluster_pb2 import (
    CircuitBreakers,
    Cluster,
    CommonHttpOptions,
    TcpKeepalive,
    UpstreamConnectionOptions,
)
from sluice.config import Version
from sluice.config.models import HealthCheck, Pool
from xds.resources import credentials, upstream, upstream_tls
from xds.resources.endpoints import contain_endpoints, uses_eds, version_members
from xds.resources.proto_messages import from_ads, seconds, uint32

IDLE_TIMEOUTS: Final = {"http": 1.5, "grpc": 60.0}
"""Seconds by protocol. HTTP/1.1 servers close idle connections without a warning, some after 2 s.
HTTP/2 servers send GOAWAY first, and Envoy repeats requests that they have not begun."""

KEEPALIVE_PROBES: Final = 3
"""Probes of TCP without a response after which a connection is closed."""

MAX_RESPONSE_HEADERS_KIB = 256
"""KiB. Some servers return the URL of a request in `location`, with each character as %XX. The
headers of a request may have 60 KiB, so the default of 60 KiB for responses is too small: Envoy
would report a protocol error of the server."""

MAX_RESPONSE_HEADERS = 256
"""Maximum headers, for the same reason: a request may have 100, the default for responses."""


def version_cluster(name: str, version: Version, pool: Pool, buffer_limit: int) -> Cluster:
    """The cluster of one version of a model. `buffer_limit`: bytes for each stream."""
    cluster = Cluster(
        name=name,
        # Envoy splits metric names at dots, and names of models and versions may contain dots.
        alt_stat_name=name.replace(".", "_"),
        connect_timeout=seconds(pool.connect_timeout),
        per_connection_buffer_limit_bytes=uint32(buffer_limit),
        lb_policy=Cluster.LEAST_REQUEST,
        circuit_breakers=_circuit_breakers(pool),
        typed_extension_protocol_options=_protocol_options(name, pool, version),
        upstream_connection_options=_tcp_keepalive(pool),
        # Otherwise a cluster with few healthy endpoints would use draining ones too.
        common_lb_config=upstream.without_panic(),
        # Remove an endpoint that the config no longer lists, even if it is healthy.
        ignore_health_on_host_removal=True,
    )
    if version.tls is not None:
        cluster.transport_socket.CopyFrom(upstream_tls.transport_socket(name, version))
    if version.health_check is not None:
        cluster.health_checks.append(_health_check(version.health_check, version.protocol))
    if uses_eds(version):
        cluster.type = Cluster.EDS
        cluster.eds_cluster_config.eds_config.CopyFrom(from_ads())
    else:
        dns = None if version.endpoints_from is None else version.endpoints_from.dns
        logical = dns is not None and dns.kind == "logical"
        contain_endpoints(cluster, version_members(version), logical=logical)
    return cluster


def _circuit_breakers(pool: Pool) -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=[
            CircuitBreakers.Thresholds(
                max_connections=uint32(pool.max_connections),
                max_pending_requests=uint32(pool.max_pending_requests),
                max_requests=uint32(pool.max_requests),
                max_retries=uint32(pool.max_retries),
                track_remaining=True,
            )
        ]
    )


def _protocol_options(name: str, pool: Pool, version: Version) -> dict[str, PackedMessage]:
    default = IDLE_TIMEOUTS[version.protocol]
    requests = pool.max_requests_per_connection
    common = CommonHttpOptions(
        idle_timeout=seconds(default if pool.idle_timeout is None else pool.idle_timeout),
        max_response_headers_kb=uint32(MAX_RESPONSE_HEADERS_KIB),
        max_headers_count=uint32(MAX_RESPONSE_HEADERS),
        max_requests_per_connection=uint32(requests) if requests else None,
    )
    filters = credentials.upstream_filters(name, version)
    if version.protocol == "grpc":
        return upstream.http2(upstream.large_windows(), common, filters=filters)
    return upstream.http1(common, filters)


def _tcp_keepalive(pool: Pool) -> UpstreamConnectionOptions | None:
    if pool.tcp_keepalive is None:
        return None
    idle, interval = keepalive_times(pool.tcp_keepalive)
    return UpstreamConnectionOptions(
        tcp_keepalive=TcpKeepalive(
            keepalive_time=uint32(idle),
            keepalive_interval=uint32(interval),
            keepalive_probes=uint32(KEEPALIVE_PROBES),
        )
    )


def keepalive_times(idle: float) -> tuple[int, int]:
    """Seconds until TCP probes an idle connection, and between two probes.

    TCP counts in whole seconds, and Envoy rejects 0.
    """
    whole = max(1, round(idle))
    return whole, max(1, whole // 6)


def _health_check(check: HealthCheck, protocol: str) -> cluster_pb2.HealthCheck:
    message = cluster_pb2.HealthCheck(
        timeout=seconds(check.timeout),
        interval=seconds(check.interval),
        # By default, Envoy checks a cluster without traffic only once a minute.
        no_traffic_interval=seconds(check.interval),
        healthy_threshold=uint32(check.healthy_threshold),
        unhealthy_threshold=uint32(check.unhealthy_threshold),
    )
    if protocol == "grpc":
        message.grpc_health_check.SetInParent()
    else:
        message.http_health_check.path = check.path
    return message
