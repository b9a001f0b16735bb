"""Endpoints (EDS): the addresses of a cluster and their weights."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.cluster.v3 import ClusterDiscoveryType
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    EndpointHealthCheckConfig,
    LbEndpoint,
    LocalityLbEndpoints,
)

from sluice.config import Version
from sluice.config.values import is_ip, split_host_port
from xds.resources.messages import address


def uses_eds(version: Version) -> bool:
    """Whether EDS provides the endpoints: all have IP addresses, so Envoy resolves no names."""
    return all(map(_is_resolved, _addresses(version)))


def discovery_type(addresses: Iterable[str]) -> ClusterDiscoveryType:
    """The type of a cluster that contains its endpoints: STATIC, or STRICT_DNS for host names."""
    if all(map(_is_resolved, addresses)):
        return ClusterDiscoveryType.STATIC
    return ClusterDiscoveryType.STRICT_DNS


def version_endpoints(cluster: str, version: Version) -> ClusterLoadAssignment:
    """The endpoints of a version of a model."""
    return load_assignment(cluster, ((e.address, e.weight) for e in version.endpoints))


def load_assignment(cluster: str, addresses: Iterable[tuple[str, int]]) -> ClusterLoadAssignment:
    """The endpoints of a cluster, from pairs of address and weight."""
    members = [_endpoint(text, weight) for text, weight in addresses]
    return ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=members)]
    )


def _addresses(version: Version) -> Iterable[str]:
    return (endpoint.address for endpoint in version.endpoints)


def _is_resolved(text: str) -> bool:
    return text.startswith("unix:") or is_ip(split_host_port(text)[0])


def _endpoint(text: str, weight: int) -> LbEndpoint:
    # By default, the Host of a health check is the cluster's name, which contains a slash.
    host = "localhost" if text.startswith("unix:") else split_host_port(text)[0]
    if ":" in host:
        host = f"[{host}]"
    return LbEndpoint(
        endpoint=Endpoint(
            address=address(text), health_check_config=EndpointHealthCheckConfig(hostname=host)
        ),
        load_balancing_weight=weight,
    )
