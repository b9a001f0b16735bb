"""The status shows what each node has accepted and rejected."""

from sluice.config import GatewayConfig
from tests.xds.sotw_node import SotwNode
from xds.admin.status import ControlPlaneState
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY, Resource, Snapshot
from xds.protocol.sotw import SotwRequest
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout


def test_a_node_is_shown_with_what_it_rejected_and_why() -> None:
    nodes = Nodes(lambda: 7.0)
    state = ControlPlaneState(
        "file", CompiledConfig(GatewayConfig(), EMPTY), nodes, Rollout(nodes, 1.0)
    )
    nodes.publish(Snapshot.of({resource_types.POLICY: {"policy": Resource.of(b"p")}}, "v1"))
    worker = SotwNode(nodes)
    worker.node.id, worker.node.metadata = "callout-1", {"pid": 42.0}
    worker.send(SotwRequest(resource_types.POLICY))
    (response,) = worker.receive()
    worker.send(SotwRequest(resource_types.POLICY, nonce=response.nonce, error="unreadable"))
    (seen,) = state.status().nodes
    assert (seen.id, seen.kind, seen.pid) == ("callout-1", "callout", 42)
    policy = seen.types["policy"]
    assert (policy.acked, policy.nacked, policy.reason) == (None, "v1", "unreadable")
    assert not policy.in_sync
    assert seen.version is None
    assert policy.at == 7.0


def test_a_node_is_shown_with_the_config_version_that_it_accepted() -> None:
    nodes = Nodes(lambda: 7.0)
    state = ControlPlaneState(
        "file", CompiledConfig(GatewayConfig(), EMPTY), nodes, Rollout(nodes, 1.0)
    )
    policy = {resource_types.POLICY: {"policy": Resource.of(b"p")}}
    nodes.publish(Snapshot.of(policy, "v1"))
    worker = SotwNode(nodes)
    worker.send(SotwRequest(resource_types.POLICY))
    (response,) = worker.receive()
    worker.send(SotwRequest(resource_types.POLICY, nonce=response.nonce))
    nodes.publish(Snapshot.of(policy, "v2"))
    (seen,) = state.status().nodes
    assert seen.version == "v2"
    assert seen.types["policy"].in_sync
    assert seen.types["policy"].acked == "v1"
