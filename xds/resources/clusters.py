"""Clusters (CDS): one for each version of each model, and the callout's."""

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    OutlierDetection,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheck as EnvoyHealthCheck,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheckGrpcHealthCheck,
    HealthCheckHttpHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    KeepaliveSettings,
    TcpKeepalive,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HttpProtocolOptions as CommonOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent

from sluice.config import GatewayConfig, Version
from sluice.config.gateway import Callout
from sluice.config.models import HealthCheck, Pool
from sluice.config.values import is_ip, split_host_port
from sluice.contract.names import CALLOUT_CLUSTER, cluster_name
from xds.resources.endpoints import assignment, discovered, of_version
from xds.resources.messages import from_ads, pack, seconds

PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

MAX_DECISIONS = 100_000
"""Decisions in flight: not the place to limit traffic, which stands ahead of the callout."""

DNS_WARMUP = 2.0
"""Seconds for a first answer from DNS."""


def warmup(config: GatewayConfig) -> dict[str, float]:
    """Seconds a new cluster may take from its acceptance until Envoy sends requests there.

    Envoy acknowledges a cluster before it has resolved names and before the first health check.
    """
    slow: dict[str, float] = {}
    for model_name, model in config.models.items():
        for version_name, version in model.versions.items():
            wait = 0.0 if discovered(version) else DNS_WARMUP
            if version.health_check is not None:
                wait += version.health_check.timeout
            if wait:
                slow[cluster_name(model_name, version_name)] = wait
    return slow


def version_cluster(name: str, version: Version, pool: Pool, buffer: int) -> Cluster:
    """The cluster of one version of a model; `buffer` is in bytes, for one stream."""
    cluster = Cluster(
        name=name,
        # Envoy splits metric names at dots, and model names may have them.
        alt_stat_name=name.replace(".", "_"),
        connect_timeout=seconds(pool.connect_timeout),
        per_connection_buffer_limit_bytes=buffer,
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        circuit_breakers=_thresholds(pool),
        typed_extension_protocol_options={PROTOCOL_OPTIONS: pack(_protocol(pool, version))},
        upstream_connection_options=_keepalive(pool),
        # An endpoint that the config no longer lists is gone, healthy or not.
        ignore_health_on_host_removal=True,
    )
    if version.health_check is not None:
        cluster.health_checks = [_health_check(version.health_check, version.protocol)]
        cluster.common_lb_config = _no_panic()
    if discovered(version):
        cluster.type = ClusterDiscoveryType.EDS
        cluster.eds_cluster_config = ClusterEdsClusterConfig(eds_config=from_ads())
    else:
        cluster.type = ClusterDiscoveryType.STRICT_DNS
        cluster.load_assignment = of_version(name, version)
    return cluster


def callout_cluster(callout: Callout) -> Cluster:
    """The workers that decide. A dead one must cost no request, so failure is noticed three ways.

    A stream that fails is retried on another worker (see the ext_proc filter), one failure takes a
    worker out for a moment, and health checks say when it is back, or that it hangs.
    """
    addresses = callout.addresses()
    return Cluster(
        name=CALLOUT_CLUSTER,
        type=ClusterDiscoveryType.STATIC
        if all(text.startswith("unix:") or is_ip(split_host_port(text)[0]) for text in addresses)
        else ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=seconds(0.25),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        load_assignment=assignment(CALLOUT_CLUSTER, ((text, 1) for text in addresses)),
        typed_extension_protocol_options={PROTOCOL_OPTIONS: pack(_callout_protocol())},
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_requests=MAX_DECISIONS,
                    max_pending_requests=MAX_DECISIONS,
                    max_retries=MAX_DECISIONS,
                )
            ]
        ),
        health_checks=[
            EnvoyHealthCheck(
                timeout=seconds(1),
                interval=seconds(0.25),
                no_traffic_interval=seconds(0.25),
                unhealthy_threshold=2,
                healthy_threshold=1,
                grpc_health_check=HealthCheckGrpcHealthCheck(),
            )
        ],
        outlier_detection=OutlierDetection(
            split_external_local_origin_errors=True,
            consecutive_local_origin_failure=1,
            enforcing_consecutive_local_origin_failure=100,
            # A refusal that the callout itself answers says nothing about its health.
            enforcing_consecutive_5xx=0,
            enforcing_consecutive_gateway_failure=0,
            enforcing_success_rate=0,
            enforcing_local_origin_success_rate=0,
            interval=seconds(0.1),
            base_ejection_time=seconds(0.25),
            max_ejection_time=seconds(1),
            max_ejection_percent=100,
        ),
        # With no worker healthy there is no decision, and so no request goes on.
        common_lb_config=_no_panic(),
        ignore_health_on_host_removal=True,
    )


def _no_panic() -> ClusterCommonLbConfig:
    return ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0))


def _thresholds(pool: Pool) -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=pool.max_connections,
                max_pending_requests=pool.max_pending_requests,
                max_requests=pool.max_requests,
                max_retries=pool.max_retries,
                track_remaining=True,
            )
        ]
    )


def _keepalive(pool: Pool) -> UpstreamConnectionOptions | None:
    if pool.tcp_keepalive is None:
        return None
    # TCP counts in whole seconds; Envoy refuses 0.
    silence = max(1, round(pool.tcp_keepalive))
    return UpstreamConnectionOptions(
        tcp_keepalive=TcpKeepalive(
            keepalive_time=silence, keepalive_interval=max(1, silence // 6), keepalive_probes=3
        )
    )


def _protocol(pool: Pool, version: Version) -> HttpProtocolOptions:
    common = CommonOptions(
        idle_timeout=seconds(pool.idle_timeout),
        max_requests_per_connection=pool.max_requests_per_connection or None,
    )
    if version.protocol == "grpc":
        explicit = HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions(
                initial_stream_window_size=1 << 20, initial_connection_window_size=1 << 24
            )
        )
    else:
        explicit = HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=Http1ProtocolOptions()
        )
    return HttpProtocolOptions(common_http_protocol_options=common, explicit_http_config=explicit)


def _callout_protocol() -> HttpProtocolOptions:
    return HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions(
                initial_stream_window_size=1 << 20,
                initial_connection_window_size=1 << 24,
                connection_keepalive=KeepaliveSettings(interval=seconds(30), timeout=seconds(5)),
            )
        )
    )


def _health_check(check: HealthCheck, protocol: str) -> EnvoyHealthCheck:
    message = EnvoyHealthCheck(
        timeout=seconds(check.timeout),
        interval=seconds(check.interval),
        # By default Envoy asks an unused cluster once a minute only.
        no_traffic_interval=seconds(check.interval),
        healthy_threshold=check.healthy_threshold,
        unhealthy_threshold=check.unhealthy_threshold,
    )
    if protocol == "grpc":
        message.grpc_health_check = HealthCheckGrpcHealthCheck()
    else:
        message.http_health_check = HealthCheckHttpHealthCheck(path=check.path)
    return message
