"""The streams of one client belong together."""

import pytest

from protos.base_pb2 import Node as NodeMessage
from xds.protocol.client_streams import by_client
from xds.protocol.delta import DeltaStream
from xds.protocol.nodes import Node, Nodes


def connected(nodes: Nodes, name: str, *, aggregated: bool) -> Node:
    node = nodes.connect(DeltaStream(aggregated))
    if name:
        nodes.identify(node, NodeMessage(id=name))
    return node


@pytest.mark.parametrize(
    ("streams", "clients"),
    [
        ([("a", False), ("a", False), ("b", False)], [["a", "a"], ["b"]]),
        ([("a", False), ("a", True)], [["a", "a"]]),  # an Envoy that has missed a cluster
        ([("a", True), ("a", True)], [["a"], ["a"]]),  # two clients with the same id
        ([("a", True), ("a", True), ("a", False), ("a", False)], [["a"], ["a"], ["a", "a"]]),
        ([("", False), ("", False)], [["unknown"], ["unknown"]]),
    ],
)
def test_streams_with_the_same_id_belong_together(
    streams: list[tuple[str, bool]], clients: list[list[str]]
) -> None:
    nodes = Nodes(lambda: 0.0)
    found = by_client([connected(nodes, name, aggregated=each) for name, each in streams])
    assert sorted([node.id for node in client] for client in found) == sorted(clients)
    for client in found:
        assert not any(node.stream.aggregated for node in client[1:])
