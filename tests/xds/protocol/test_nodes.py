"""What the control plane knows of its connected nodes."""

import pytest

from xds.protocol import resource_types
from xds.protocol.nodes import MAX_STREAMS, Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.sotw import SotwRequest
from xds.protocol.subscription import OverLimitError

CDS, LDS, POLICY = resource_types.CLUSTER, resource_types.LISTENER, resource_types.POLICY


@pytest.mark.parametrize(
    ("types", "kind"), [((CDS, LDS), "envoy"), ((POLICY,), "callout"), ((LDS,), "unknown")]
)
def test_the_kind_of_a_node_follows_from_its_subscriptions(
    types: tuple[ResourceType, ...], kind: str
) -> None:
    nodes = Nodes(lambda: 0.0)
    node = nodes.connect()
    for each in types:
        nodes.on_request(node, SotwRequest(each))
    assert node.kind == kind


def test_more_streams_than_the_limit_are_an_error() -> None:
    nodes = Nodes(lambda: 0.0)
    for _ in range(MAX_STREAMS):
        nodes.connect()
    with pytest.raises(OverLimitError):
        nodes.connect()
