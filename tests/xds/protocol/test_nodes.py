"""The control plane records the kind of connected nodes and limits their number."""

import math
from dataclasses import replace

import pytest

from protos.base_pb2 import Node as NodeMessage
from tests.xds.sotw_node import SotwNode
from xds.events import Events
from xds.protocol import resource_types
from xds.protocol.nodes import MAX_NODE_TEXT, MAX_STREAMS, Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.shared_names import OverLimitError
from xds.protocol.snapshot import NodeIdentity, Resource, Snapshot, Variant
from xds.protocol.sotw import SotwRequest, SotwStream

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


def test_only_a_node_that_has_said_who_it_is_leaves_an_event_when_it_goes() -> None:
    events = Events()
    nodes = Nodes(lambda: 0.0, events)
    nodes.disconnect(nodes.connect(SotwStream()))
    assert events.last == 0
    node = nodes.connect(SotwStream())
    nodes.identify(node, NodeMessage(id="a"))
    nodes.disconnect(node)
    assert events.last == 2


def test_the_texts_of_a_node_are_printable_and_bounded() -> None:
    node = SotwNode(Nodes(lambda: 0.0)).node
    message = NodeMessage(
        id="a\nb\x1b[2J", user_agent_name="\x9bx", user_agent_version="9" * 10_000
    )
    message.metadata.update(
        {"pid": 7, "k\r": "v\n", "nan": math.nan, "deep": {"a": 1}, "none": None}
    )
    node.identify(message)
    assert node.id == "a\\nb\\x1b[2J"
    assert node.agent.startswith("\\x9bx 999")
    assert len(node.agent) == MAX_NODE_TEXT
    assert node.metadata == {"pid": 7, "k\\r": "v\\n"}


def test_the_reason_of_a_nack_is_one_line() -> None:
    nodes = Nodes(lambda: 0.0)
    client = SotwNode(nodes)
    nodes.publish(Snapshot.of({CDS: {"a": Resource.of(b"a")}}, "v1"))
    client.send(SotwRequest(CDS))
    (response,) = client.receive()
    error = "bad\n\x1b[31mnode x rejected"
    client.send(SotwRequest(CDS, nonce=response.nonce, error=error))
    nack = nodes.nack()
    assert nack is not None
    assert nack.reason == "bad\\n\\x1b[31mnode x rejected"


def old_if_1_36(node: NodeIdentity) -> str:
    return "old" if node.build_version == (1, 36, 4) else ""


def test_a_node_gets_the_snapshot_of_its_variant() -> None:
    nodes = Nodes(lambda: 0.0)
    variant = Variant(lambda: Snapshot.of({CDS: {"b": Resource.of(b"b")}}, "v1"))
    snapshot = Snapshot.of({CDS: {"a": Resource.of(b"a")}}, "v1")
    nodes.publish(replace(snapshot, variants={"old": variant}, variant_of=old_if_1_36))
    received = []
    for minor, patch in ((40, 0), (36, 4)):
        client = SotwNode(nodes)
        message = NodeMessage(id="envoy")
        version = message.user_agent_build_version.version
        version.major_number, version.minor_number, version.patch = 1, minor, patch
        nodes.identify(client.node, message)
        client.send(SotwRequest(CDS))
        (response,) = client.receive()
        received.append(set(response.resources))
        client.send(SotwRequest(CDS, nonce=response.nonce))
        assert client.node.version == "v1"
    assert received == [{"a"}, {"b"}]
    assert nodes.out_of_sync([CDS]) == []
