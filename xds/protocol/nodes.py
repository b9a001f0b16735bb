"""The nodes connected now: who they are, what they accepted, and when one of them says something.

What is shown to all of them is the `view`; who decides on it is the rollout.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import EMPTY, Snapshot
from xds.protocol.subscription import (
    Acknowledgement,
    Kind,
    OverLimitError,
    Stream,
    SubscriptionRequest,
    SubscriptionResponse,
)

MAX_STREAMS = 1024


@dataclass(frozen=True, slots=True)
class Nack:
    """A node refused a version of a type."""

    node: str
    type: ResourceType
    version: str
    reason: str


@dataclass(slots=True, eq=False)
class Node:
    """A client and its stream; `wake` is set when there may be something to send."""

    stream: Stream = field(default_factory=Stream)
    id: str = "unknown"
    metadata: dict[str, str | float] = field(default_factory=dict)
    agent: str = ""
    connected_at: float = 0.0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def kind(self) -> Kind:
        """What the node is, by what it asks for."""
        return self.stream.kind


class Nodes:
    """Every connected node. `now` gives wall-clock seconds.

    `progress` is set whenever a node says something or leaves. `pushes`, `acks` and `nacks` count
    responses and what nodes made of them, by type, since the start.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._nodes: set[Node] = set()
        self._view = EMPTY
        self.progress = asyncio.Event()
        self.pushes: Counter[ResourceType] = Counter()
        self.acks: Counter[ResourceType] = Counter()
        self.nacks: Counter[ResourceType] = Counter()
        self._nacks: list[Nack] = []

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    @property
    def view(self) -> Snapshot:
        """What is shown to nodes now."""
        return self._view

    def show(self, view: Snapshot) -> None:
        """Show this to every node from now on, and forget earlier refusals."""
        self._view = view
        self._nacks.clear()
        for node in self._nodes:
            node.wake.set()

    def connect(self) -> Node:
        """A new client. Raises OverLimitError when there are too many."""
        if len(self._nodes) >= MAX_STREAMS:
            raise OverLimitError(f"more than {MAX_STREAMS} streams")
        node = Node(connected_at=self._now())
        self._nodes.add(node)
        return node

    def disconnect(self, node: Node) -> None:
        """The client is gone: nothing waits for it any longer."""
        self._nodes.discard(node)
        self.progress.set()

    def on_request(self, node: Node, request: SubscriptionRequest) -> Acknowledgement:
        """Take in a request of a client. Raises OverLimitError where it exceeds a bound."""
        verdict = node.stream.on_request(request, self._now())
        if verdict is Acknowledgement.ACK:
            self.acks[request.type] += 1
        if verdict is Acknowledgement.NACK:
            self.nacks[request.type] += 1
            subscription = node.stream.subscriptions[request.type]
            refused, reason = subscription.nacked or "", subscription.reason or ""
            if refused == self._view.versions[request.type]:
                self._nacks.append(Nack(node.id, request.type, refused, reason))
        node.wake.set()
        self.progress.set()
        return verdict

    def responses(self, node: Node) -> Iterator[SubscriptionResponse]:
        """What has to be sent to a client now."""
        for response in node.stream.responses(self._view):
            self.pushes[response.type] += 1
            yield response

    def nack(self) -> Nack | None:
        """The first refusal of what is shown now."""
        return self._nacks[0] if self._nacks else None

    def out_of_sync(self, types: Sequence[ResourceType]) -> list[Node]:
        """The nodes that have yet to accept these types of what is shown now."""
        return [node for node in self._nodes if not node.stream.in_sync(self._view, types)]
