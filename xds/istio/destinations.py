"""Where the requests of a version go in the mesh: to a host of its own, or to a service."""

from collections.abc import Iterator
from dataclasses import dataclass

from sluice.config import GatewayConfig, Model, Version
from sluice.config.istio import Istio
from xds.istio.names import service_host, subset_name, version_host

VERSION_PORT = 80
"""The port of the host of a version. Its endpoints have ports of their own."""


@dataclass(frozen=True, slots=True)
class VersionDestination:
    """A version, and its host in the mesh.

    `subset`: the part of the settings of a service that is for this version; empty for a host that
    only this version has. `port`: None if the service has only one port.
    """

    model_name: str
    version_name: str
    model: Model
    version: Version
    host: str
    port: int | None
    subset: str = ""

    @property
    def service(self) -> bool:
        """Whether the host is a Kubernetes service, which the mesh knows already."""
        return bool(self.subset)


def destinations(config: GatewayConfig, istio: Istio) -> Iterator[VersionDestination]:
    """The versions of all models, in the order of the config."""
    for model_name, model in config.models.items():
        for name, version in model.versions.items():
            yield destination(istio, model_name, name, model, version)


def destination(
    istio: Istio, model_name: str, name: str, model: Model, version: Version
) -> VersionDestination:
    """One version."""
    origin = version.endpoints_from
    if origin is None or origin.kubernetes is None:
        host = version_host(model_name, name, istio.domain)
        return VersionDestination(model_name, name, model, version, host, VERSION_PORT)
    service = origin.kubernetes
    host = service_host(service.service, service.namespace, istio.cluster_domain)
    port = istio.service_ports.get(f"{service.namespace}/{service.service}")
    if port is None and isinstance(service.port, int):
        port = service.port
    subset = subset_name(model_name, name)
    return VersionDestination(model_name, name, model, version, host, port, subset)
