"""Nodes that speak the xDS protocol in memory: what Envoy does, without a socket."""

from dataclasses import dataclass, field

from xds.protocol import resource_types
from xds.protocol.nodes import Node, Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.sotw import SotwRequest, SotwResponse


@dataclass
class Client:
    """Keeps what it was sent; answers when it is told to, or at once with `automatic`."""

    nodes: Nodes
    name: str
    types: tuple[ResourceType, ...]
    automatic: bool = True
    refuses: str | None = None
    node: Node = field(init=False)
    resources: dict[ResourceType, set[str]] = field(default_factory=dict)
    history: list[tuple[ResourceType, frozenset[str]]] = field(default_factory=list)
    names: dict[ResourceType, tuple[str, ...]] = field(default_factory=dict)
    nonces: dict[ResourceType, str] = field(default_factory=dict)
    waiting: list[SotwResponse] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = self.nodes.connect()
        self.node.id = self.name
        for kind in self.types:
            if kind.wildcard:
                self._say(kind)

    def receive(self) -> bool:
        """Take in what there is to be sent; whether there was anything."""
        arrived = list(self.nodes.responses(self.node))
        for response in arrived:
            self.history.append((response.type, frozenset(response.resources)))
            if self.automatic:
                self.answer(response)
            else:
                self.waiting.append(response)
        return bool(arrived)

    def answer(self, response: SotwResponse) -> None:
        """ACK, or NACK when a resource is there that the client refuses."""
        self.nonces[response.type] = response.nonce
        if self.refuses is not None and self.refuses in response.resources:
            self._say(response.type, error=f"{self.refuses} is invalid")
            return
        self.resources[response.type] = set(response.resources)
        if response.type == resource_types.CLUSTER and resource_types.ENDPOINT in self.types:
            # As Envoy does, before it accepts the clusters.
            self.names[resource_types.ENDPOINT] = tuple(response.resources)
            self._say(resource_types.ENDPOINT)
        self._say(response.type)

    def _say(self, kind: ResourceType, error: str | None = None) -> None:
        names, nonce = self.names.get(kind, ()), self.nonces.get(kind, "")
        self.nodes.on_request(self.node, SotwRequest(kind, names=names, nonce=nonce, error=error))


def envoy(nodes: Nodes, name: str = "envoy", *, automatic: bool = True) -> Client:
    types = (resource_types.CLUSTER, resource_types.ENDPOINT, resource_types.LISTENER)
    return Client(nodes, name, types, automatic)


def callout(nodes: Nodes, name: str = "callout-0", *, automatic: bool = True) -> Client:
    return Client(nodes, name, (resource_types.POLICY,), automatic)
