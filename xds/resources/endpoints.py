"""Endpoints (EDS): the addresses of a cluster, with their weights."""

from collections.abc import Iterable

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


def discovered(version: Version) -> bool:
    """Whether the endpoints come by EDS: all have IP addresses, so no name needs resolving."""
    return all(is_ip(split_host_port(endpoint.address)[0]) for endpoint in version.endpoints)


def of_version(name: str, version: Version) -> ClusterLoadAssignment:
    """The endpoints of one version."""
    return assignment(name, ((e.address, e.weight) for e in version.endpoints))


def assignment(name: str, addresses: Iterable[tuple[str, int]]) -> ClusterLoadAssignment:
    """A cluster's endpoints, from (address, weight) pairs."""
    members = [_member(text, weight) for text, weight in addresses]
    return ClusterLoadAssignment(
        cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=members)]
    )


def _member(text: str, weight: int) -> LbEndpoint:
    # Without a host name, health checks would send the cluster's name, which holds a slash.
    host = "localhost" if text.startswith("unix:") else split_host_port(text)[0]
    if ":" in host:
        host = f"[{host}]"
    return LbEndpoint(
        endpoint=Endpoint(
            address=address(text), health_check_config=EndpointHealthCheckConfig(hostname=host)
        ),
        load_balancing_weight=weight,
    )
