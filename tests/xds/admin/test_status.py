"""The status shows what each node has accepted and rejected."""

import time

import pytest

from protos.base_pb2 import Node as NodeMessage
from sluice.config import GatewayConfig
from sluice.contract.traffic import latency_bin
from tests.xds.sotw_node import SotwNode
from xds.admin.status import status_of
from xds.envoys.observations import Observations
from xds.envoys.reporters import BreakerState, BreakerView, Counts
from xds.protocol import resource_types
from xds.protocol.delta import DeltaRequest, DeltaStream
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY, Resource, Snapshot
from xds.protocol.sotw import SotwRequest
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout
from xds.state import ControlPlaneState


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
    (seen,) = status_of(state).nodes
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
    (seen,) = status_of(state).nodes
    assert seen.version == "v2"
    assert seen.types["policy"].in_sync
    assert seen.types["policy"].acked == "v1"


def test_an_envoy_with_a_stream_for_each_type_is_one_node() -> None:
    nodes = Nodes(lambda: 7.0)
    state = ControlPlaneState(
        "file", CompiledConfig(GatewayConfig(), EMPTY), nodes, Rollout(nodes, 1.0)
    )
    types = resource_types.CLUSTER, resource_types.ROUTE
    nodes.publish(Snapshot.of({each: {"a": Resource.of(b"1")} for each in types}, "v1"))
    for each in types:
        stream = DeltaStream(aggregated=False)
        node = nodes.connect(stream)
        nodes.identify(node, NodeMessage(id="envoy-1"))
        subscription = DeltaRequest(each, subscribe=("a",))
        nodes.on_request(node, each, stream.on_request(subscription, 0))
        (response,) = stream.responses(nodes.snapshot_of(node), 0.0)
        if each is resource_types.CLUSTER:
            answer = DeltaRequest(each, nonce=response.nonce)
            nodes.on_request(node, each, stream.on_request(answer, 0))
    (seen,) = status_of(state).nodes
    assert (seen.id, seen.kind, seen.version) == ("envoy-1", "envoy", None)
    assert {name: each.in_sync for name, each in seen.types.items()} == {
        "clusters": True,
        "routes": False,
    }


def test_the_traffic_and_the_breakers_of_versions_of_the_config_are_shown() -> None:
    versions = {"v1": {"endpoints": [{"address": "127.0.0.1:1"}]}}
    config = GatewayConfig.model_validate({"models": {"m": {"versions": versions}}})
    nodes = Nodes(lambda: 7.0)
    observations = Observations()
    state = ControlPlaneState(
        "file", CompiledConfig(config, EMPTY), nodes, Rollout(nodes, 1.0), observations
    )
    assert not status_of(state).breakers.known
    now = time.monotonic() - 7
    counts = Counts(10, 1, {latency_bin(1000): 10})
    worker = observations.join("worker", "callout-0", now)
    worker.report(now, {"m/v1": counts, "x/v1": counts})
    opened = BreakerView(BreakerState.OPEN, 0.5, 40)
    worker.report(time.monotonic(), {}, breakers={"m/v1": opened, "x/v1": opened})
    status = status_of(state)
    (traffic,) = status.traffic
    assert (traffic.model, traffic.version, traffic.source) == ("m", "v1", "worker")
    assert (traffic.state, traffic.requests, traffic.error_rate) == ("current", 10, 0.1)
    assert 7 <= traffic.covered <= 60
    assert traffic.p99 == pytest.approx(0.001, rel=0.13)
    assert status.breakers.known
    (breaker,) = status.breakers.not_closed
    assert (breaker.model, breaker.state, breaker.error_rate) == ("m", "open", 0.5)
    (reporter,) = status.reporters
    assert (reporter.source, reporter.node) == ("worker", "callout-0")


def test_without_reports_of_finished_requests_the_traffic_is_that_of_envoy() -> None:
    config = {
        "models": {
            "m": {
                "versions": {"v1": {"endpoints": [{"address": "127.0.0.1:1"}]}},
                "breaker": {"enabled": False},
            }
        },
        "telemetry": {"reports": {"enabled": False}},
    }
    nodes, observations = Nodes(lambda: 7.0), Observations()
    compiled = CompiledConfig(GatewayConfig.model_validate(config), EMPTY)
    state = ControlPlaneState("file", compiled, nodes, Rollout(nodes, 1.0), observations)
    now = time.monotonic() - 30
    observations.join("worker", "callout-0", now).report(now, {})
    observations.join("envoy", "envoy", now).report(now, {"m/v1": Counts(5, 0)})
    (traffic,) = status_of(state).traffic
    assert (traffic.source, traffic.requests) == ("envoy", 5)
