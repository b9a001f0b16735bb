"""A node with an incremental stream in memory, for tests that compare it with `SotwNode`.

Requests and responses are those of the state-of-the-world variant: a response has all resources
that the client then has.
"""

from tests.xds.sotw_node import SotwNode
from xds.protocol.delta import DeltaRequest, DeltaStream
from xds.protocol.encoding import ResponseEncoder
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resources
from xds.protocol.sotw import SotwRequest, SotwResponse


class DeltaNode(SotwNode):
    """Connects a node with a new stream."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._encoder = ResponseEncoder()
        self._delta = DeltaStream()
        self.node = nodes.connect(self._delta)
        self._names: dict[ResourceType, frozenset[str]] = {}
        self._held: dict[ResourceType, Resources] = {}
        self._received: dict[ResourceType, tuple[str, Resources]] = {}

    def send(self, request: SotwRequest) -> None:
        """Send the changes of the names, and an ACK or NACK."""
        names, before = frozenset(request.names), self._names.get(request.type, frozenset())
        self._names[request.type] = names
        nonce, resources = self._received.get(request.type, ("", {}))
        if request.error is None and nonce and request.nonce == nonce:
            self._held[request.type] = resources
        changed = DeltaRequest(
            request.type,
            tuple(names - before),
            tuple(before - names),
            request.nonce,
            request.error,
        )
        acknowledgement = self._delta.on_request(changed, self._nodes.now())
        self._nodes.on_request(self.node, request.type, acknowledgement)

    def receive(self, clock: float = 0.0) -> list[SotwResponse]:
        """Receive the responses that are due at this time, in monotonic seconds."""
        received = []
        for each in list(self._delta.responses(self._nodes.snapshot_of(self.node), clock)):
            self._nodes.on_response(each.type, len(self._encoder.encode_delta(each)))
            held = {**self._held.get(each.type, {}), **each.changes.resources}
            resources = {n: body for n, body in held.items() if n not in each.changes.removed}
            self._received[each.type] = each.nonce, resources
            received.append(SotwResponse(each.type, each.version, each.nonce, resources))
        self._nodes.on_responses(self.node)
        return received
