"""Nodes that speak the xDS protocol in memory, as Envoys and callout workers do over gRPC."""

from dataclasses import dataclass, field

from sluice.contract.names import JWT_FILTER
from tests.xds.sotw_node import SotwNode
from xds.protocol import resource_types
from xds.protocol.nodes import Node, Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.sotw import SotwRequest, SotwResponse

NODE: type[SotwNode] = SotwNode
"""The variant of the protocol, which a fixture chooses."""

NAMED_BY_LISTENERS = {
    resource_types.EXTENSION: (JWT_FILTER,),
    resource_types.ROUTE: ("gateway",),
}
"""What Envoy requests when it has received the listener."""


@dataclass
class Client:
    """A node that records the responses that it receives.

    With `automatic`, the node sends an ACK or NACK of every response at once; otherwise the test
    calls `acknowledge`. The node rejects every response that contains the resource `rejects`.
    """

    nodes: Nodes
    name: str
    types: tuple[ResourceType, ...]
    automatic: bool = True
    rejects: str | None = None
    stream: SotwNode = field(init=False)
    resources: dict[ResourceType, set[str]] = field(default_factory=dict)
    history: list[tuple[ResourceType, frozenset[str]]] = field(default_factory=list)
    names: dict[ResourceType, tuple[str, ...]] = field(default_factory=dict)
    nonces: dict[ResourceType, str] = field(default_factory=dict)
    waiting: list[SotwResponse] = field(default_factory=list)
    received: list[SotwResponse] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = NODE(self.nodes)
        self.node.id = self.name
        for resource_type in self.types:
            if resource_type.wildcard:
                self._request(resource_type)

    @property
    def node(self) -> Node:
        return self.stream.node

    def receive(self) -> bool:
        """Receive the responses that are due; returns whether there were any."""
        received = self.stream.receive()
        for response in received:
            self.history.append((response.type, frozenset(response.resources)))
            self.received.append(response)
            if self.automatic:
                self.acknowledge(response)
            else:
                self.waiting.append(response)
        return bool(received)

    def acknowledge(self, response: SotwResponse) -> None:
        """Send an ACK, or a NACK if the response contains the rejected resource."""
        self.nonces[response.type] = response.nonce
        if self.rejects is not None and self.rejects in response.resources:
            self._request(response.type, error=f"{self.rejects} is invalid")
            return
        self.resources[response.type] = set(response.resources)
        if response.type == resource_types.CLUSTER and resource_types.ENDPOINT in self.types:
            # Envoy requests the endpoints of new clusters before it accepts the clusters.
            self.names[resource_types.ENDPOINT] = tuple(response.resources)
            self._request(resource_types.ENDPOINT)
        if response.type == resource_types.LISTENER:
            for each in NAMED_BY_LISTENERS:
                if each in self.types and each not in self.nonces:
                    self.names.setdefault(each, NAMED_BY_LISTENERS[each])
                    self._request(each)
        self._request(response.type)

    def _request(self, resource_type: ResourceType, error: str | None = None) -> None:
        names, nonce = self.names.get(resource_type, ()), self.nonces.get(resource_type, "")
        self.stream.send(SotwRequest(resource_type, names=names, nonce=nonce, error=error))


def envoy(nodes: Nodes, name: str = "envoy", *, automatic: bool = True) -> Client:
    types = (resource_types.CLUSTER, resource_types.ENDPOINT, resource_types.LISTENER)
    return Client(nodes, name, types, automatic)


def native_envoy(nodes: Nodes, name: str = "envoy", *, automatic: bool = True) -> Client:
    """An Envoy that also has routes and the filter that verifies tokens."""
    others = (resource_types.CLUSTER, resource_types.ENDPOINT, resource_types.LISTENER)
    types = (*others, *NAMED_BY_LISTENERS)
    return Client(nodes, name, types, automatic)


def callout(nodes: Nodes, name: str = "callout-0", *, automatic: bool = True) -> Client:
    return Client(nodes, name, (resource_types.POLICY,), automatic)
