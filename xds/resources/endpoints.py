"""The endpoints of clusters, with EDS or inside the cluster: their addresses and weights."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterCustomClusterType,
    ClusterDiscoveryType,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    EndpointAdditionalAddress,
    EndpointHealthCheckConfig,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.clusters.common.dns.v3 import DnsLookupFamily
from envoy_data_plane.envoy.extensions.clusters.dns.v3 import DnsCluster, DnsClusterRefreshRate

from sluice.config import Version
from sluice.config.addresses import LOOPBACK_HOSTS, is_localhost, needs_dns, split_host_port
from xds.resources.messages import address, pack, seconds, socket_address

MIN_DNS_RETRY, MAX_DNS_RETRY = 0.5, 5.0
"""Seconds between two attempts to resolve a name after a failure."""

Weighted = Iterable[tuple[str, int]]
"""Addresses with their weights."""


def uses_eds(version: Version) -> bool:
    """Whether EDS provides the endpoints: Envoy resolves no names."""
    return _are_resolved(version_addresses(version))


def version_addresses(version: Version) -> Weighted:
    """The addresses of the endpoints of a version of a model."""
    return [(endpoint.address, endpoint.weight) for endpoint in version.endpoints]


def version_endpoints(cluster: str, version: Version) -> ClusterLoadAssignment:
    """The endpoints of a version of a model whose endpoints EDS provides."""
    return _load_assignment(cluster, version_addresses(version), resolved=True)


def contain_endpoints(cluster: Cluster, addresses: Weighted) -> None:
    """Put the endpoints into the cluster. If one has a host name, Envoy resolves the names."""
    addresses = list(addresses)
    resolved = _are_resolved(addresses)
    cluster.load_assignment = _load_assignment(cluster.name, addresses, resolved=resolved)
    if resolved:
        cluster.type = ClusterDiscoveryType.STATIC
    else:
        cluster.cluster_type = _resolves_names()


def _resolves_names() -> ClusterCustomClusterType:
    """Each address of a name is an endpoint.

    By default, Envoy uses the IPv4 addresses of a name only if it has no IPv6 addresses. In a
    network without IPv6, it would reach no server. With `ALL`, Envoy would take the two addresses
    of a server for two servers.
    """
    retries = DnsClusterRefreshRate(
        base_interval=seconds(MIN_DNS_RETRY), max_interval=seconds(MAX_DNS_RETRY)
    )
    settings = DnsCluster(
        dns_lookup_family=DnsLookupFamily.V4_PREFERRED, dns_failure_refresh_rate=retries
    )
    return ClusterCustomClusterType(name="envoy.clusters.dns", typed_config=pack(settings))


def _are_resolved(addresses: Weighted) -> bool:
    return not any(needs_dns(text) for text, _ in addresses)


def _load_assignment(cluster: str, addresses: Weighted, *, resolved: bool) -> ClusterLoadAssignment:
    members = [_endpoint(text, weight, resolved) for text, weight in addresses]
    return ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=members)]
    )


def _endpoint(text: str, weight: int, resolved: bool) -> LbEndpoint:
    is_path = text.startswith("unix:")
    host, port = ("localhost", "") if is_path else split_host_port(text)
    # By default, the Host of a health check is the cluster's name, which contains a slash.
    checked = EndpointHealthCheckConfig(hostname=f"[{host}]" if ":" in host else host)
    endpoint = Endpoint(address=address(text), health_check_config=checked)
    if is_localhost(host) and not is_path:
        _connect_to_loopback(endpoint, int(port), resolved)
    return LbEndpoint(endpoint=endpoint, load_balancing_weight=weight)


def _connect_to_loopback(endpoint: Endpoint, port: int, resolved: bool) -> None:
    """Connect to whichever loopback address accepts, without DNS (RFC 6761 section 6.3).

    Servers listen on one of the two addresses or on both. Envoy supports several addresses of an
    endpoint only in clusters without DNS.
    """
    first, *others = (socket_address(host, port) for host in LOOPBACK_HOSTS)
    endpoint.address = first
    if resolved:
        endpoint.additional_addresses = [EndpointAdditionalAddress(address=a) for a in others]
