"""The endpoints of a version: those that the config lists, and those that something else names."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from sluice.config.finding import WarningKind
from sluice.config.values import FilePath, HostName, HostPort, Name, Outside, Strict

MAX_ENDPOINTS: Final = 10_000
"""Maximum endpoints of one version."""


OUTDATED_ENDPOINTS: Final = WarningKind(
    "outdated_endpoints",
    "In a running gateway: the source of `endpoints_from` cannot be read, so that the endpoints "
    "stay as they were.",
    "correct the source",
)

NO_ENDPOINTS: Final = WarningKind(
    "no_endpoints",
    "In a running gateway: the source of `endpoints_from` has no endpoint: requests for the "
    "version fail.",
    "check the source, for a Kubernetes service also its name and its port",
)


class Endpoint(Strict):
    """A model server that serves the version."""

    address: Annotated[HostPort, Outside.SERVER]
    weight: int = Field(1, ge=1, le=128, description="Load balancing weight.")
    drain: bool = Field(
        False,
        description="Whether Envoy sends the endpoint no new requests. Requests that it has "
        "continue.",
    )


class DnsEndpoints(Strict):
    """The addresses of a name, which Envoy asks a name server for every 5 seconds."""

    name: Annotated[HostName, Outside.SERVER]
    port: int = Field(ge=1, le=65535)
    kind: Literal["strict", "logical"] = Field(
        "strict",
        description="`strict`: every address is an endpoint, and an address that the name no "
        "longer has gets no requests. `logical`: new connections go to the first address of the "
        "latest answer, and open ones stay in use; for the name of a load balancer with many "
        "changing addresses.",
    )

    @property
    def endpoint(self) -> Endpoint:
        """The name as an endpoint."""
        return Endpoint(address=f"{self.name}:{self.port}")


class KubernetesEndpoints(Strict):
    """The pods of a Kubernetes service (EndpointSlices). A pod that ends drains."""

    service: Name
    namespace: Name = "default"
    port: Annotated[int, Field(ge=1, le=65535)] | Name = Field(
        description="Name of the port of the service, or its number in the pods."
    )


class EndpointsFrom(Strict):
    """Where the endpoints of a version come from. Set exactly one key."""

    dns: DnsEndpoints | None = None
    file: FilePath | None = Field(
        None,
        description="File with a list of endpoints in YAML or JSON, each with `address` (an IP "
        "address and a port) and if needed `weight` and `drain`. New content takes effect at once.",
    )

    kubernetes: KubernetesEndpoints | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if [self.dns, self.file, self.kubernetes].count(None) != 2:
            raise ValueError("set exactly one of dns, file and kubernetes")
        return self

    @property
    def description(self) -> str:
        """The source, for a message."""
        if self.kubernetes is not None:
            service = self.kubernetes
            return f"the service {service.namespace}/{service.service} with port {service.port}"
        return f"the name {self.dns.name}" if self.dns is not None else f"the file {self.file}"
