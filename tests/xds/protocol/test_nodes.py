"""The control plane records the kind of connected nodes and limits their number."""

import pytest

from tests.xds.sotw_node import SotwNode
from xds.protocol import resource_types
from xds.protocol.nodes import MAX_STREAMS, Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.sotw import SotwRequest, SotwStream
from xds.protocol.subscription import OverLimitError

CDS, LDS, POLICY = resource_types.CLUSTER, resource_types.LISTENER, resource_types.POLICY


@pytest.mark.parametrize(
    ("types", "kind"), [((CDS, LDS), "envoy"), ((POLICY,), "callout"), ((LDS,), "unknown")]
)
def test_the_kind_of_a_node_follows_from_its_subscriptions(
    types: tuple[ResourceType, ...], kind: str
) -> None:
    nodes = Nodes(lambda: 0.0)
    client = SotwNode(nodes)
    for each in types:
        client.send(SotwRequest(each))
    assert client.node.kind == kind


def test_more_streams_than_the_limit_are_an_error() -> None:
    nodes = Nodes(lambda: 0.0)
    for _ in range(MAX_STREAMS):
        nodes.connect(SotwStream())
    with pytest.raises(OverLimitError):
        nodes.connect(SotwStream())
