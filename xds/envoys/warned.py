"""Warnings about the endpoints of a config that only a running Envoy can find."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from sluice.config import GatewayConfig
from sluice.config.analysis import FAILING_HEALTH_CHECK
from sluice.config.finding import Finding
from sluice.config.resolution import UNRESOLVABLE_HOST
from sluice.contract.names import cluster_name
from xds.envoys.fleet import EndpointView, EnvoyView


def warned_by_envoys(config: GatewayConfig, envoys: Iterable[EnvoyView]) -> Iterator[Finding]:
    """The warnings about a config from what Envoys see that answer now."""
    clusters: dict[str, list[list[EndpointView]]] = defaultdict(list)
    for envoy in envoys:
        of_envoy: dict[str, list[EndpointView]] = defaultdict(list)
        for endpoint in envoy.endpoints if envoy.error is None else ():
            of_envoy[endpoint.cluster].append(endpoint)
        for cluster, endpoints in of_envoy.items():
            clusters[cluster].append(endpoints)
    for model, each in config.models.items():
        for name, version in each.versions.items():
            seen = clusters.get(cluster_name(model, name), ())
            path = ("models", model, "versions", name)
            for key, named in version.named():
                address = named.address
                if any(e.address == address and e.state == "unresolved" for v in seen for e in v):
                    yield Finding.of(
                        UNRESOLVABLE_HOST,
                        (*path, *key),
                        "Envoy has no address for the host name",
                    )
            failing = [v for v in seen if all(e.state == "unhealthy" for e in v)]
            if version.health_check is not None and failing:
                yield Finding.of(
                    FAILING_HEALTH_CHECK,
                    (*path, "health_check"),
                    f"no endpoint of {model}/{name} passes the health check",
                )
