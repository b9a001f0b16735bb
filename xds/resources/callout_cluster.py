"""The cluster of the callout's workers (CDS)."""

from pathlib import Path

from protos.cluster_pb2 import (
    CircuitBreakers,
    Cluster,
    HealthCheck,
    KeepaliveSettings,
    LeastRequest,
    LoadBalancingPolicy,
)
from protos.route_pb2 import RetryPolicy
from sluice.config.gateway import Callout
from sluice.config.identity import Identity
from sluice.contract.names import CALLOUT_CLUSTER
from xds.resources import upstream
from xds.resources.endpoints import Member, contain_endpoints
from xds.resources.proto_messages import extension, seconds, uint32
from xds.resources.worker_identity import transport_socket

CONNECT_TIMEOUT = 0.25
"""Seconds until a connection to a worker must be open."""

MAX_CALLS = 100_000
"""Concurrent calls to the callout: high, because other limits apply before the callout."""

PING_INTERVAL, PING_TIMEOUT = 0.25, 0.5
"""Seconds between two HTTP/2 pings on a connection, and until Envoy closes a silent connection.
Envoy extends the timeout when it receives any frame, so it does not close the connection of a
worker that is only slow. The sum is well below `callout.message_timeout`, after which a request
fails, and `PING_TIMEOUT` is above the longest pause of a worker with a policy of usual size."""

MAX_RETRIES = 8
"""Maximum retries of a call, for calls that fail because a worker has ended or hangs. With their
back-offs, they take about as long as the restart of a worker."""

RETRY_BACK_OFF = 0.025
"""Maximum seconds before the first retry of a call. Envoy doubles it for each further retry. A few
milliseconds are enough for Envoy's threads to learn that the worker is ejected."""

CHECK_INTERVAL, CHECK_TIMEOUT = 0.2, 0.5
"""Seconds between two health checks of a worker, and until a health check fails."""

UNHEALTHY_THRESHOLD = 5
"""Failed health checks after which a worker is unhealthy. Until then, ejection keeps calls away. If
all workers end at once, calls are repeated for about a second, in which a new worker can start."""

EJECTION_INTERVAL = 0.1
"""Seconds after which Envoy looks again for workers whose ejection has ended."""

EJECTION_TIME = 5.0
"""Seconds for which Envoy ejects a worker: until failed health checks keep the worker out of
rotation. A successful health check ends the ejection, for example after a restart."""


def callout_cluster(
    callout: Callout, identity: Identity | None = None, directory: Path = Path()
) -> Cluster:
    """The cluster of the workers. A worker that fails must not make a request fail.

    With certificates in `identity`, whose file names are relative to `directory`, it has TLS.
    """
    addresses = callout.addresses()
    cluster = settings(len(addresses))
    cluster.name = CALLOUT_CLUSTER
    contain_endpoints(cluster, map(Member, addresses))
    if identity is not None and identity.mutual and not callout.address.startswith("unix:"):
        cluster.transport_socket.CopyFrom(
            transport_socket(identity, directory, identity.callout.name)
        )
    return cluster


def settings(workers: int) -> Cluster:
    """The cluster of this number of workers, without a name and endpoints.

    Envoy finds a worker that has ended by its closed connections, and a worker that hangs by pings
    without a response, and then closes its connections. In both cases, Envoy ejects the worker and
    repeats the calls that wait for it on another worker. Health checks find out when a worker is
    back.
    """
    pings = KeepaliveSettings(interval=seconds(PING_INTERVAL), timeout=seconds(PING_TIMEOUT))
    return Cluster(
        connect_timeout=seconds(CONNECT_TIMEOUT),
        load_balancing_policy=_least_request(),
        typed_extension_protocol_options=upstream.http2(
            upstream.large_messages_of_callout(pings), retries=_retries()
        ),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakers.Thresholds(
                    max_requests=uint32(MAX_CALLS),
                    max_pending_requests=uint32(MAX_CALLS),
                    max_retries=uint32(MAX_CALLS),
                )
            ]
        ),
        health_checks=[
            HealthCheck(
                timeout=seconds(CHECK_TIMEOUT),
                interval=seconds(CHECK_INTERVAL),
                no_traffic_interval=seconds(CHECK_INTERVAL),
                unhealthy_threshold=uint32(UNHEALTHY_THRESHOLD),
                healthy_threshold=uint32(1),
                grpc_health_check=HealthCheck.GrpcHealthCheck(),
            )
        ],
        outlier_detection=upstream.ejection(workers, EJECTION_INTERVAL, EJECTION_TIME),
        common_lb_config=_immediate_updates(),
        ignore_health_on_host_removal=True,
    )


def _retries() -> RetryPolicy:
    """Repeats a call that fails without a response.

    They are a setting of the cluster, because Envoy parses the retries of a gRPC service anew for
    each call.
    """
    # `reset` includes failed connections.
    return RetryPolicy(
        retry_on="reset",
        num_retries=uint32(MAX_RETRIES),
        retry_back_off=RetryPolicy.RetryBackOff(base_interval=seconds(RETRY_BACK_OFF)),
    )


def _immediate_updates() -> Cluster.CommonLbConfig:
    """Without a healthy worker, calls must fail instead of reaching an unhealthy one.

    By default, Envoy's threads learn of a second change of health within a second only at the end
    of this second. Until then, all calls would go to a worker that has just ended.
    """
    config = upstream.without_panic()
    config.update_merge_window.SetInParent()
    return config


def _least_request() -> LoadBalancingPolicy:
    """Picks the worker with the fewest calls.

    With the default method, Envoy compares two random workers, which may be twice the same one, so
    a worker that hangs would get new calls. With a full scan, a worker that hangs gets no new call
    when it has more calls than another worker.
    """
    policy = LeastRequest(selection_method=LeastRequest.FULL_SCAN)
    least_request = extension("envoy.load_balancing_policies.least_request", policy)
    return LoadBalancingPolicy(
        policies=[LoadBalancingPolicy.Policy(typed_extension_config=least_request)]
    )
