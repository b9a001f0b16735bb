"""A node with a state-of-the-world stream in memory: what `XdsServer` does, without gRPC."""

from xds.protocol.encoding import ResponseEncoder
from xds.protocol.nodes import Nodes
from xds.protocol.sotw import SotwRequest, SotwResponse, SotwStream


class SotwNode:
    """Connects a node with a new stream."""

    def __init__(self, nodes: Nodes) -> None:
        self.stream = SotwStream()
        self._encoder = ResponseEncoder()
        self.node = nodes.connect(self.stream)
        self._nodes = nodes

    def send(self, request: SotwRequest) -> None:
        """Send a request to the control plane."""
        acknowledgement = self.stream.on_request(request, self._nodes.now())
        self._nodes.on_request(self.node, request.type, acknowledgement)

    def receive(self, clock: float = 0.0) -> list[SotwResponse]:
        """Receive the responses that are due at this time, in monotonic seconds."""
        responses = list(self.stream.responses(self._nodes.snapshot_of(self.node), clock))
        for response in responses:
            self._nodes.on_response(response.type, len(self._encoder.encode(response)))
        return responses
