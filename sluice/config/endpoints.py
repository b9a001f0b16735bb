"""The endpoints of a version: those that the config lists, and those that something else names."""

from typing import Literal

from pydantic import Field

from sluice.config.values import HostName, HostPort, Strict


class Endpoint(Strict):
    """A model server that serves the version."""

    address: HostPort
    weight: int = Field(1, ge=1, le=128, description="Load balancing weight.")
    drain: bool = Field(
        False,
        description="Whether Envoy sends the endpoint no new requests. Requests that it has "
        "continue.",
    )


class DnsEndpoints(Strict):
    """The addresses of a name, which Envoy asks a name server for every 5 seconds."""

    name: HostName
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


class EndpointsFrom(Strict):
    """Where the endpoints of a version come from, in place of `endpoints`."""

    dns: DnsEndpoints
