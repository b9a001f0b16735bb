"""DestinationRules: connection pools and TLS of versions."""

from collections.abc import Iterable

from google.protobuf.wrappers_pb2 import BoolValue

from protos.istio_networking_pb2 import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    LoadBalancerSettings,
    Subset,
    TrafficPolicy,
)
from sluice.config import Version
from sluice.config.addresses import is_ip
from sluice.config.istio import Istio
from sluice.config.models import Pool
from xds.istio.destinations import VersionDestination
from xds.istio.names import secret_name
from xds.resources.clusters import IDLE_TIMEOUTS
from xds.resources.proto_messages import seconds

_MAX_INT32 = 2**31 - 1
"""Istio has signed numbers where Envoy has `uint32`."""


def destination_rule(istio: Istio, target: VersionDestination) -> DestinationRule:
    """The rule of a version with a host of its own."""
    return DestinationRule(
        host=target.host, traffic_policy=_traffic_policy(target), export_to=istio.export_to
    )


def service_rule(istio: Istio, targets: Iterable[VersionDestination]) -> DestinationRule:
    """The rule of a Kubernetes service, with a subset for each of its versions.

    The subsets have no labels: all pods of the service are endpoints of each. So one service may
    serve several models, each with its own pool.
    """
    targets = list(targets)
    subsets = [Subset(name=each.subset, traffic_policy=_traffic_policy(each)) for each in targets]
    return DestinationRule(host=targets[0].host, subsets=subsets, export_to=istio.export_to)


def _traffic_policy(target: VersionDestination) -> TrafficPolicy:
    return TrafficPolicy(
        load_balancer=LoadBalancerSettings(simple=LoadBalancerSettings.LEAST_REQUEST),
        connection_pool=_connection_pool(target.model.pool, target.version.protocol),
        tls=_tls(target),
    )


def _connection_pool(pool: Pool, protocol: str) -> ConnectionPoolSettings:
    idle = IDLE_TIMEOUTS[protocol] if pool.idle_timeout is None else pool.idle_timeout
    upgrade = ConnectionPoolSettings.HTTPSettings
    return ConnectionPoolSettings(
        tcp=ConnectionPoolSettings.TCPSettings(
            max_connections=_int32(pool.max_connections),
            connect_timeout=seconds(pool.connect_timeout),
            tcp_keepalive=_keepalive(pool),
        ),
        http=ConnectionPoolSettings.HTTPSettings(
            http1_max_pending_requests=_int32(pool.max_pending_requests),
            http2_max_requests=_int32(pool.max_requests),
            max_requests_per_connection=_int32(pool.max_requests_per_connection),
            max_retries=_int32(pool.max_retries),
            idle_timeout=seconds(idle),
            h2_upgrade_policy=upgrade.DO_NOT_UPGRADE if protocol == "http" else upgrade.DEFAULT,
        ),
    )


def _keepalive(pool: Pool) -> ConnectionPoolSettings.TCPSettings.TcpKeepalive | None:
    if pool.tcp_keepalive is None:
        return None
    # TCP counts in whole seconds.
    idle = max(1, round(pool.tcp_keepalive))
    return ConnectionPoolSettings.TCPSettings.TcpKeepalive(
        probes=3, time=seconds(idle), interval=seconds(max(1, idle // 6))
    )


def _tls(target: VersionDestination) -> ClientTLSSettings | None:
    """TLS to the endpoints. None: plain text, or for a service what the mesh has (auto mTLS)."""
    tls, name = target.version.tls, target.version.server_name
    if tls is None:
        return None
    asked = tls.server_name or name or ""
    settings = ClientTLSSettings(
        mode=ClientTLSSettings.SIMPLE if tls.certificate is None else ClientTLSSettings.MUTUAL,
        sni="" if is_ip(asked) else asked,
    )
    if name is None:
        settings.insecure_skip_verify.CopyFrom(BoolValue(value=True))
    else:
        settings.subject_alt_names.append(name)
    if needs_secret(target.version):
        settings.credential_name = secret_name(target.model_name, target.version_name)
    return settings


def needs_secret(version: Version) -> bool:
    """Whether the operator must provide a Secret with the CA or the client certificate."""
    return version.tls is not None and bool(version.tls.ca or version.tls.certificate)


def _int32(value: int) -> int:
    return min(value, _MAX_INT32)
