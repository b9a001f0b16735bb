"""The endpoints of clusters, with EDS or inside the cluster: their addresses and weights."""

from collections.abc import Iterable
from typing import NamedTuple

from protos.cluster_pb2 import Cluster, DnsCluster
from protos.endpoint_pb2 import (
    DRAINING,
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from sluice.config import Version
from sluice.config.addresses import LOOPBACK_HOSTS, is_localhost, needs_dns, split_host_port
from xds.resources.proto_messages import address, pack, seconds, socket_address, uint32

MIN_DNS_RETRY, MAX_DNS_RETRY = 0.5, 5.0
"""Seconds between two attempts to resolve a name after a failure."""


class Member(NamedTuple):
    """An endpoint of a cluster. `draining`: it gets no new requests."""

    address: str
    weight: int = 1
    draining: bool = False


Members = Iterable[Member]


def uses_eds(version: Version) -> bool:
    """Whether EDS provides the endpoints: Envoy resolves no names."""
    if version.endpoints_from is not None:
        return version.endpoints_from.dns is None
    return _are_resolved(version_members(version))


def version_members(version: Version) -> Members:
    """The endpoints of a version of a model."""
    return [Member(each.address, each.weight, each.drain) for _, each in version.named()]


def version_endpoints(cluster: str, version: Version) -> ClusterLoadAssignment:
    """The endpoints of a version of a model whose endpoints EDS provides."""
    return _load_assignment(cluster, version_members(version), resolved=True)


def contain_endpoints(cluster: Cluster, members: Members, *, logical: bool = False) -> None:
    """Put the endpoints into the cluster. If one has a host name, Envoy resolves the names.

    `logical`: the addresses of a name are one endpoint.
    """
    members = list(members)
    resolved = _are_resolved(members)
    cluster.load_assignment.CopyFrom(_load_assignment(cluster.name, members, resolved=resolved))
    if resolved:
        cluster.type = Cluster.STATIC
    else:
        cluster.cluster_type.CopyFrom(_resolves_names(logical))


def _resolves_names(logical: bool) -> Cluster.CustomClusterType:
    """Each address of a name is an endpoint, or with `logical`, all of them together.

    By default, Envoy uses the IPv4 addresses of a name only if it has no IPv6 addresses. In a
    network without IPv6, it would reach no server. With `ALL`, Envoy would take the two addresses
    of a server for two servers.
    """
    retries = DnsCluster.RefreshRate(
        base_interval=seconds(MIN_DNS_RETRY), max_interval=seconds(MAX_DNS_RETRY)
    )
    settings = DnsCluster(
        dns_lookup_family=DnsCluster.V4_PREFERRED,
        dns_failure_refresh_rate=retries,
        all_addresses_in_single_endpoint=logical,
    )
    return Cluster.CustomClusterType(name="envoy.clusters.dns", typed_config=pack(settings))


def _are_resolved(members: Members) -> bool:
    return not any(needs_dns(member.address) for member in members)


def _load_assignment(cluster: str, members: Members, *, resolved: bool) -> ClusterLoadAssignment:
    endpoints = [_endpoint(member, resolved) for member in members]
    return ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)]
    )


def _endpoint(member: Member, resolved: bool) -> LbEndpoint:
    text = member.address
    is_path = text.startswith("unix:")
    host, port = ("localhost", "") if is_path else split_host_port(text)
    # By default, the Host of a health check is the cluster's name, which contains a slash.
    checked = Endpoint.HealthCheckConfig(hostname=f"[{host}]" if ":" in host else host)
    endpoint = Endpoint(address=address(text), health_check_config=checked)
    if is_localhost(host) and not is_path:
        _connect_to_loopback(endpoint, int(port), resolved)
    return LbEndpoint(
        endpoint=endpoint,
        health_status=DRAINING if member.draining else None,
        load_balancing_weight=uint32(member.weight),
    )


def _connect_to_loopback(endpoint: Endpoint, port: int, resolved: bool) -> None:
    """Connect to whichever loopback address accepts, without DNS (RFC 6761 section 6.3).

    Servers listen on one of the two addresses or on both. Envoy supports several addresses of an
    endpoint only in clusters without DNS.
    """
    first, *others = (socket_address(host, port) for host in LOOPBACK_HOSTS)
    endpoint.address.CopyFrom(first)
    if resolved:
        endpoint.additional_addresses.extend(
            Endpoint.AdditionalAddress(address=each) for each in others
        )
