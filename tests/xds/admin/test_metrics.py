"""The control plane counts responses, ACKs and NACKs."""

import time

from prometheus_client import CollectorRegistry, generate_latest

from sluice.config import GatewayConfig
from sluice.version import VERSION
from tests.xds.sotw_node import SotwNode
from xds.admin.metrics import HELP, StateCollector
from xds.admin.status import status_of
from xds.envoys.reporters import Counts
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY, Snapshot
from xds.protocol.sotw import SotwRequest
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout
from xds.state import ControlPlaneState


def test_pushes_acks_nacks_nodes_and_configs_are_counted() -> None:
    nodes = Nodes(lambda: 7.0)
    state = ControlPlaneState(
        "file", CompiledConfig(GatewayConfig(), EMPTY), nodes, Rollout(nodes, 1.0)
    )
    nodes.publish(Snapshot.of({}, "v1"))
    for error in (None, "unreadable"):
        node = SotwNode(nodes)
        node.send(SotwRequest(resource_types.POLICY))
        (response,) = node.receive()
        node.send(SotwRequest(resource_types.POLICY, nonce=response.nonce, error=error))
    state.on_invalid_config("not valid")
    state.observations.configure({"m/v1"})
    envoy = state.observations.join("envoy", "envoy-1", time.monotonic())
    envoy.report(time.monotonic(), {"m/v1": Counts(10, 3)})
    registry = CollectorRegistry()
    registry.register(StateCollector(state))
    text = generate_latest(registry).decode()
    for line in (
        'sluice_xds_pushes_total{type="policy"} 2.0',
        'sluice_xds_pushed_bytes_total{type="clusters"} 0.0',
        'sluice_xds_acks_total{type="policy"} 1.0',
        'sluice_xds_nacks_total{type="policy"} 1.0',
        'sluice_xds_nacks_total{type="clusters"} 0.0',
        'sluice_xds_nodes{kind="callout"} 2.0',
        'sluice_xds_nodes{kind="envoy"} 0.0',
        'sluice_xds_config_reads_total{result="accepted"} 1.0',
        'sluice_xds_config_reads_total{result="refused"} 1.0',
        'sluice_xds_upstream_requests_total{model="m",version="v1"} 10.0',
        'sluice_xds_upstream_errors_total{model="m",version="v1"} 3.0',
        'sluice_xds_reporters{source="envoy"} 1.0',
        'sluice_xds_reporters{source="worker"} 0.0',
        'sluice_xds_reports_refused_total{source="envoy"} 0.0',
        "sluice_xds_in_error 1.0",
        f'sluice_build_info{{version="{VERSION}"}} 1.0',
        "sluice_xds_models 0.0",
    ):
        assert f"{line}\n" in text
    for name in HELP:
        assert f"# HELP {name} " in text


def test_clients_of_the_config_source_of_istiod_are_shown_and_counted() -> None:
    istiods = Nodes(lambda: 7.0)
    nodes = Nodes(lambda: 7.0, followers=(istiods,))
    compiled = CompiledConfig(GatewayConfig(), EMPTY)
    state = ControlPlaneState("file", compiled, nodes, Rollout(nodes, 1.0), istiods=istiods)
    nodes.publish(Snapshot.of({}, "v1"))
    node = SotwNode(istiods)
    node.send(SotwRequest(resource_types.VIRTUAL_SERVICE))
    (response,) = node.receive()
    node.send(SotwRequest(resource_types.VIRTUAL_SERVICE, nonce=response.nonce, error="no"))
    registry = CollectorRegistry()
    registry.register(StateCollector(state))
    text = generate_latest(registry).decode()
    assert 'sluice_xds_nodes{kind="istiod"} 1.0\n' in text
    assert 'sluice_xds_nacks_total{type="virtual_services"} 1.0\n' in text
    (shown,) = status_of(state).nodes
    assert (shown.kind, shown.types["virtual_services"].reason) == ("istiod", "no")
    # Nobody else is affected.
    assert state.error is None
    assert state.rollout.in_sync
