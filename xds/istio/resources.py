"""Compiles a config into the resources of Istio that route the requests of its models."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from google.protobuf.message import Message

from sluice.config import GatewayConfig
from sluice.config.istio import Istio
from xds.istio.destination_rules import destination_rule, service_rule
from xds.istio.destinations import VersionDestination, destinations
from xds.istio.names import label, resource_name
from xds.istio.service_entries import service_entry
from xds.istio.virtual_service import virtual_service

GROUP: Final = "networking.istio.io"

VIRTUAL_SERVICE: Final = "sluice"
"""The name of the VirtualService."""


class IstioKind(Enum):
    """A kind of resource. The order is that in which a mesh needs them: make before break."""

    SERVICE_ENTRY = "ServiceEntry"
    DESTINATION_RULE = "DestinationRule"
    VIRTUAL_SERVICE = "VirtualService"

    @property
    def version(self) -> str:
        """The version of the API that Kubernetes and istiod use."""
        return "v1"

    @property
    def api_version(self) -> str:
        """`apiVersion` of the Kubernetes object."""
        return f"{GROUP}/{self.version}"

    @property
    def type_url(self) -> str:
        """The type for which istiod asks a config source (`istio.io/istio/pkg/adsc`)."""
        return f"{self.api_version}/{self.value}"

    @property
    def message_url(self) -> str:
        """The type URL of the message in a `google.protobuf.Any`."""
        return f"type.googleapis.com/istio.networking.v1alpha3.{self.value}"


@dataclass(frozen=True, slots=True)
class IstioResource:
    """A resource of Istio. `spec` is a message of `protos.istio_networking`."""

    kind: IstioKind
    namespace: str
    name: str
    spec: Message


def compile_istio(config: GatewayConfig) -> tuple[IstioResource, ...]:
    """The resources of a config, in the order of their kinds; none without the section `istio`.

    `config` may have the endpoints that sources have found.
    """
    istio = config.istio
    if istio is None:
        return ()
    found = list(destinations(config, istio))
    return (
        *_service_entries(istio, found),
        *_destination_rules(istio, found),
        _resource(
            istio, IstioKind.VIRTUAL_SERVICE, VIRTUAL_SERVICE, virtual_service(config, istio)
        ),
    )


def _service_entries(istio: Istio, found: list[VersionDestination]) -> Iterator[IstioResource]:
    for each in found:
        if not each.service:
            name = resource_name(each.model_name, each.version_name)
            yield _resource(istio, IstioKind.SERVICE_ENTRY, name, service_entry(istio, each))


def _destination_rules(istio: Istio, found: list[VersionDestination]) -> Iterator[IstioResource]:
    services: dict[str, list[VersionDestination]] = defaultdict(list)
    for each in found:
        if each.service:
            services[each.host].append(each)
        else:
            name = resource_name(each.model_name, each.version_name)
            yield _resource(istio, IstioKind.DESTINATION_RULE, name, destination_rule(istio, each))
    for host, targets in services.items():
        rule = service_rule(istio, targets)
        yield _resource(istio, IstioKind.DESTINATION_RULE, f"service.{label(host)}", rule)


def _resource(istio: Istio, kind: IstioKind, name: str, spec: Message) -> IstioResource:
    return IstioResource(kind, istio.namespace, name, spec)
