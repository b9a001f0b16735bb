"""The cluster of the callout's workers (CDS)."""

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    KeepaliveSettings,
)

from sluice.config.gateway import Callout
from sluice.contract.names import CALLOUT_CLUSTER
from xds.resources import upstream
from xds.resources.endpoints import discovery_type, load_assignment
from xds.resources.messages import seconds

MAX_CALLS = 100_000
"""Concurrent calls to the callout: high, because other limits apply before the callout."""


def callout_cluster(callout: Callout) -> Cluster:
    """The cluster of the workers. A worker that fails must not make a request fail.

    Envoy repeats a failed call on another worker (see the ext_proc filter), ejects a worker after
    one failure, and checks the health of workers to find workers that hang or have restarted.
    """
    addresses = callout.addresses()
    return Cluster(
        name=CALLOUT_CLUSTER,
        type=discovery_type(addresses),
        connect_timeout=seconds(0.25),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        load_assignment=load_assignment(CALLOUT_CLUSTER, ((text, 1) for text in addresses)),
        typed_extension_protocol_options=upstream.http2(
            upstream.large_windows(KeepaliveSettings(interval=seconds(30), timeout=seconds(5)))
        ),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_requests=MAX_CALLS, max_pending_requests=MAX_CALLS, max_retries=MAX_CALLS
                )
            ]
        ),
        health_checks=[
            HealthCheck(
                timeout=seconds(1),
                interval=seconds(0.25),
                no_traffic_interval=seconds(0.25),
                unhealthy_threshold=2,
                healthy_threshold=1,
                grpc_health_check=HealthCheckGrpcHealthCheck(),
            )
        ],
        outlier_detection=_outlier_detection(),
        # Without a healthy worker, calls must fail instead of reaching an unhealthy one.
        common_lb_config=upstream.without_panic(),
        ignore_health_on_host_removal=True,
    )


def _outlier_detection() -> OutlierDetection:
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=1,
        enforcing_consecutive_local_origin_failure=100,
        # A status that the callout returns says nothing about the worker's health.
        enforcing_consecutive_5xx=0,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        interval=seconds(0.1),
        base_ejection_time=seconds(0.25),
        max_ejection_time=seconds(1),
        max_ejection_percent=100,
    )
