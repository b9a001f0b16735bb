"""Endpoints (EDS): the addresses of a cluster, with their weights."""

from collections.abc import Iterable, Iterator

from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    EndpointHealthCheckConfig,
    LbEndpoint,
    LocalityLbEndpoints,
)

from sluice.config import GatewayConfig, Version, cluster_name
from sluice.config.values import is_ip, split_host_port
from xds.resources.messages import address


def discovered(version: Version) -> bool:
    """Whether the endpoints come by EDS: all have IP addresses, so no name needs resolving."""
    return all(is_ip(split_host_port(endpoint.address)[0]) for endpoint in version.endpoints)


def assignments(config: GatewayConfig) -> Iterator[ClusterLoadAssignment]:
    """The EDS resources: one for each version whose endpoints are all IP addresses."""
    for model_name, model in config.models.items():
        for version_name, version in model.versions.items():
            if discovered(version):
                yield of_version(cluster_name(model_name, version_name), version)


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
