"""Nodes that speak the xDS protocol in memory: what Envoy does, without a socket."""

from dataclasses import dataclass, field

from xds import type_urls
from xds.nodes import Node, Nodes
from xds.subscription import Request, Response


@dataclass
class Client:
    """Keeps what it was sent; answers when it is told to, or at once with `automatic`."""

    nodes: Nodes
    name: str
    types: tuple[str, ...]
    automatic: bool = True
    refuses: str | None = None
    node: Node = field(init=False)
    resources: dict[str, set[str]] = field(default_factory=dict)
    history: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    waiting: list[Response] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = self.nodes.connect()
        self.node.id = self.name
        for url in self.types:
            if url in type_urls.WILDCARD:
                self.ask(url)

    def ask(self, url: str, names: tuple[str, ...] = ()) -> None:
        self.nodes.on_request(self.node, Request(url, names=names))

    def receive(self) -> bool:
        """Take in what there is to be sent; whether there was anything."""
        arrived = list(self.nodes.responses(self.node))
        for response in arrived:
            self.history.append((response.type_url, frozenset(response.resources)))
            if self.automatic:
                self.answer(response)
            else:
                self.waiting.append(response)
        return bool(arrived)

    def answer(self, response: Response) -> None:
        """ACK, or NACK when a resource is there that the client refuses."""
        if self.refuses is not None and self.refuses in response.resources:
            self._reply(response, error=f"{self.refuses} is not to my taste")
            return
        self.resources[response.type_url] = set(response.resources)
        self._reply(response)
        if response.type_url == type_urls.CLUSTER and type_urls.ENDPOINT in self.types:
            self._ask_for_endpoints(tuple(response.resources))

    def _ask_for_endpoints(self, names: tuple[str, ...]) -> None:
        subscription = self.node.stream.subscriptions.get(type_urls.ENDPOINT)
        nonce = subscription.nonce if subscription is not None else ""
        self.nodes.on_request(self.node, Request(type_urls.ENDPOINT, names=names, nonce=nonce))

    def _reply(self, response: Response, error: str | None = None) -> None:
        names = tuple(response.resources) if response.type_url == type_urls.ENDPOINT else ()
        self.nodes.on_request(
            self.node,
            Request(response.type_url, response.version, names, response.nonce, error),
        )


def envoy(nodes: Nodes, name: str = "envoy", *, automatic: bool = True) -> Client:
    types = (type_urls.CLUSTER, type_urls.ENDPOINT, type_urls.LISTENER)
    return Client(nodes, name, types, automatic)


def callout(nodes: Nodes, name: str = "callout-0", *, automatic: bool = True) -> Client:
    return Client(nodes, name, (type_urls.POLICY,), automatic)
