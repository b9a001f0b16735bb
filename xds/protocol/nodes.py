"""The connected nodes, and what each node has accepted or rejected of the published snapshot.

The rollout decides which snapshot is published.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Final, Literal

from google.protobuf.struct_pb2 import Struct

from protos.base_pb2 import Node as NodeMessage
from sluice.printable import printable
from xds.events import Events
from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.shared_names import OverLimitError
from xds.protocol.snapshot import EMPTY, Snapshot, TypeVersion, default_variant
from xds.protocol.stream import Acknowledgement, Stream

MAX_STREAMS = 4096
"""Concurrent streams, to bound the memory of the control plane. An Envoy and a worker have one
each. An Envoy that uses the services of single types has one for each type and each cluster."""

MAX_METADATA = 64 << 10
"""Maximum bytes of node metadata for the status. Larger metadata is ignored."""

MAX_NODE_TEXT = 256
"""Maximum characters of a node's id, of its agent and of each text in its metadata. Longer text is
truncated."""

UNKNOWN: Final = "unknown"
"""The id of a node that does not say one."""

RETRY = 1.0
"""Seconds from one attempt to remove what a node keeps to the next."""

ENVOY_TYPES: Final = frozenset(
    (resource_types.RUNTIME, resource_types.CLUSTER, resource_types.ENDPOINT)
)
"""Types to which only an Envoy subscribes. Other clients may know the name of a listener."""

NodeKind = Literal["envoy", "callout", "video", "istiod", "unknown"]


@dataclass(frozen=True, slots=True)
class Nack:
    """A node rejected a version of a type."""

    node: str
    type: ResourceType
    version: TypeVersion
    reason: str

    def __str__(self) -> str:
        return f"node {self.node} rejected {self.type.name}: {self.reason}"


@dataclass(slots=True, eq=False)
class Node:
    """A connected node.

    `version` is the config version that the node accepted completely last; None if there is none.
    `build_version` is the version of the Envoy; None for other clients. `cluster` and `locality`
    are those that the node says (`NodeIdentity`). `variant` selects the snapshot that the node gets
    (`Snapshot.variants`); None before the node has said who it is.
    `wake` is set when there may be a response to send.
    """

    stream: Stream
    id: str = UNKNOWN
    cluster: str = ""
    locality: str = ""
    metadata: dict[str, str | float] = field(default_factory=dict)
    agent: str = ""
    connected_at: float = 0.0
    version: str | None = None
    build_version: tuple[int, int, int] | None = None
    variant: str | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def kind(self) -> NodeKind:
        """The kind of node, derived from the types that the node has subscribed to."""
        if resource_types.POLICY in self.stream.types:
            return "callout"
        if resource_types.VIDEO in self.stream.types:
            return "video"
        if not self.stream.types.keys().isdisjoint(resource_types.ISTIO):
            return "istiod"
        separate = self.stream.types and not self.stream.aggregated
        return "envoy" if separate or not ENVOY_TYPES.isdisjoint(self.stream.types) else "unknown"

    def identify(self, message: NodeMessage) -> None:
        """Set what the node says of itself. Each text becomes one printable line."""
        self.id = printable(message.id, MAX_NODE_TEXT) or UNKNOWN
        self.cluster = printable(message.cluster, MAX_NODE_TEXT)
        self.locality = printable(_locality(message), MAX_NODE_TEXT)
        version = message.user_agent_version
        if message.HasField("user_agent_build_version"):
            built = message.user_agent_build_version.version
            self.build_version = (built.major_number, built.minor_number, built.patch)
            version = ".".join(map(str, self.build_version))
        self.agent = printable(f"{message.user_agent_name} {version}".strip(), MAX_NODE_TEXT)
        if message.metadata.ByteSize() <= MAX_METADATA:
            self.metadata = dict(_metadata(message.metadata))

    def nack(self) -> Nack | None:
        """A NACK of the last response of a type; None if the node has rejected none of these."""
        for resource_type, state in self.stream.types.items():
            if state.nacked is not None:
                return Nack(self.id, resource_type, state.nacked, state.reason or "")
        return None


class Nodes:
    """All connected nodes. `now` returns Unix seconds.

    `events` gets the nodes that come and go, and NACKs.

    `progress` is set when a node sends a request or disconnects. `pushes`, `pushed_bytes`, `acks`
    and `nacks` count responses, their bytes, ACKs and NACKs by type since the start.

    `followers` get each published snapshot too, without its variants. No rollout waits for their
    nodes, and these reject nothing for others.
    """

    def __init__(
        self,
        now: Callable[[], float],
        events: Events | None = None,
        followers: "Sequence[Nodes]" = (),
        max_streams: int = MAX_STREAMS,
    ) -> None:
        self.now = now
        self._followers, self._max_streams = followers, max_streams
        self._nodes: set[Node] = set()
        self._behind: set[Node] = set()
        self._snapshot = EMPTY
        self._events = events or Events(now)
        self.published_at = now()
        """Unix time at which the snapshot was published."""
        self.progress = asyncio.Event()
        self.pushes: Counter[ResourceType] = Counter()
        self.pushed_bytes: Counter[ResourceType] = Counter()
        self.acks: Counter[ResourceType] = Counter()
        self.nacks: Counter[ResourceType] = Counter()
        self._nack: Nack | None = None

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    @property
    def snapshot(self) -> Snapshot:
        """The published snapshot, with its variants."""
        return self._snapshot

    def snapshot_of(self, node: Node) -> Snapshot:
        """The published snapshot that a node gets."""
        return self._snapshot.of_variant(node.variant)

    def moves(self, snapshot: Snapshot) -> set[tuple[str, str]]:
        """The variants that nodes have, each with the one that they would have of a snapshot."""
        return {
            (node.variant, snapshot.variant_of(node))
            for node in self._nodes
            if node.variant is not None
        }

    def publish(self, snapshot: Snapshot) -> None:
        """Send this snapshot to every node, and forget the NACKs of earlier snapshots."""
        moves = snapshot.variant_of != self._snapshot.variant_of
        self._snapshot, self.published_at = snapshot, self.now()
        self._nack = None
        for node in self._nodes:
            if moves and node.variant is not None:
                node.variant = snapshot.variant_of(node)
            self._update(node)
            node.wake.set()
        for each in self._followers:
            each.publish(replace(snapshot, variants={}, variant_of=default_variant))

    def connect(self, stream: Stream) -> Node:
        """Add a node with a new stream. Raises OverLimitError if there are too many."""
        if len(self._nodes) >= self._max_streams:
            raise OverLimitError(f"more than {self._max_streams} streams")
        node = Node(stream, connected_at=self.now())
        self._nodes.add(node)
        self._update(node)
        return node

    def identify(self, node: Node, message: NodeMessage) -> None:
        """Set the identity of a node, and its variant."""
        node.identify(message)
        node.variant = self._snapshot.variant_of(node)
        self._events.emit("node", node=node.id, agent=node.agent, connected=True)

    def disconnect(self, node: Node) -> None:
        """Remove a node. A rollout no longer waits for it."""
        self._nodes.discard(node)
        self._behind.discard(node)
        if node.variant is not None:
            self._events.emit("node", node=node.id, agent=node.agent, connected=False)
        self.progress.set()

    def on_request(
        self, node: Node, resource_type: ResourceType, acknowledgement: Acknowledgement
    ) -> None:
        """Record a request that the node's stream has processed."""
        if acknowledgement is Acknowledgement.ACK:
            self.acks[resource_type] += 1
        if acknowledgement is Acknowledgement.NACK:
            self.nacks[resource_type] += 1
            self._record_nack(node, resource_type)
        self._update(node)
        node.wake.set()
        self.progress.set()

    def remove_kept(self, node: Node, clock: float) -> None:
        """Remove what a node keeps of an earlier stream, if it is time (`Stream.removes_at`).

        All streams of the node and all workers must have accepted a whole config first: until then,
        their routes and policies may refer to it. `clock` is in monotonic seconds.
        """
        stream = node.stream
        if stream.removes_at is None or clock < stream.removes_at:
            return
        behind = self._out_of_sync(resource_types.ALL)
        refers = any(each.id == node.id or each.kind == "callout" for each in behind)
        if refers or self._snapshot.version is None:
            stream.removes_at = clock + RETRY
            return
        stream.remove_kept()
        self._update(node)

    def on_responses(self, node: Node) -> None:
        """Record that a node has got every response that is due, which may be none."""
        self._update(node)
        self.progress.set()

    def on_response(self, resource_type: ResourceType, size: int) -> None:
        """Count a response to a node, of this number of bytes."""
        self.pushes[resource_type] += 1
        self.pushed_bytes[resource_type] += size

    def _record_nack(self, node: Node, resource_type: ResourceType) -> None:
        state = node.stream.types[resource_type]
        reason = state.reason or ""
        self._events.emit("nack", node=node.id, type=resource_type.name, reason=reason)
        # A NACK of an earlier snapshot does not reject the published snapshot.
        rejected = state.nacked == self.snapshot_of(node).types[resource_type].version
        if self._nack is None and rejected and state.nacked is not None:
            self._nack = Nack(node.id, resource_type, state.nacked, reason)

    def _update(self, node: Node) -> None:
        if not node.stream.in_sync(self.snapshot_of(node)):
            self._behind.add(node)
            return
        self._behind.discard(node)
        # A node without subscriptions has accepted nothing.
        if node.stream.types:
            node.version = self.snapshot_of(node).version

    def nack(self) -> Nack | None:
        """The first NACK of the published snapshot; None if no node has rejected it."""
        return self._nack

    def out_of_sync(self, types: Sequence[ResourceType]) -> list[Node]:
        """The nodes that have not accepted these types of the published snapshot yet."""
        return list(self._out_of_sync(types))

    def all_in_sync(self, types: Sequence[ResourceType]) -> bool:
        """Whether `out_of_sync` is empty. Cheap: a rollout asks after each request of a node."""
        return next(self._out_of_sync(types), None) is None

    def _out_of_sync(self, types: Sequence[ResourceType]) -> Iterator[Node]:
        for node in self._behind:
            if not node.stream.in_sync(self.snapshot_of(node), types):
                yield node


def _locality(message: NodeMessage) -> str:
    locality = message.locality
    return "/".join(filter(None, (locality.region, locality.zone, locality.sub_zone)))


def _metadata(metadata: Struct) -> Iterator[tuple[str, str | float]]:
    """The texts and the finite numbers of a node's metadata."""
    for key, value in metadata.fields.items():
        name = printable(key, MAX_NODE_TEXT)
        if value.WhichOneof("kind") == "string_value":
            yield name, printable(value.string_value, MAX_NODE_TEXT)
        # JSON has no other numbers.
        elif value.WhichOneof("kind") == "number_value" and isfinite(value.number_value):
            yield name, value.number_value
