"""Envoys of node groups get their own listener, models and runtime."""

import pytest

from protos.base_pb2 import Node as NodeMessage
from sluice.config import ConfigError
from sluice.config.disruption import check_change
from sluice.config.gateway import GatewayConfig
from sluice.contract.names import CONFIG_RUNTIME, LISTENER, NATIVE_RUNTIME, RUNTIME_METADATA
from tests.xds.resources.test_envoy_versions import CONFIG
from tests.xds.resources.test_resources import compiled
from tests.xds.rollout.nodes_in_memory import native_envoy
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import Snapshot

EDGE = {
    "match": {"clusters": ["edge-*"], "localities": ["eu"]},
    "listener": {"address": "127.0.0.1:18443"},
    "models": ["m"],
    "runtime": {"envoy.reloadable_features.x": True},
}
CLUSTERS, ROUTES = resource_types.CLUSTER, resource_types.ROUTE


def snapshot_of(
    snapshot: Snapshot, cluster: str, locality: tuple[str, str] = ("eu", "a"), *, minor: int = 40
) -> Snapshot:
    """What an Envoy gets that says this of itself."""
    nodes = Nodes(lambda: 0.0)
    nodes.publish(snapshot)
    node = native_envoy(nodes).node
    message = NodeMessage(id="e", cluster=cluster, user_agent_name="envoy")
    message.locality.region, message.locality.zone = locality
    message.metadata.update({RUNTIME_METADATA: NATIVE_RUNTIME})
    built = message.user_agent_build_version.version
    built.major_number, built.minor_number = 1, minor
    nodes.identify(node, message)
    return nodes.snapshot_of(node)


def names(snapshot: Snapshot) -> set[str]:
    return {each for each in snapshot.types[CLUSTERS].resources if "/" in each}


def test_an_envoy_of_a_group_gets_its_listener_models_and_runtime() -> None:
    snapshot = compiled(**CONFIG, node_groups={"edge": EDGE})
    edge, other = snapshot_of(snapshot, "edge-1"), snapshot_of(snapshot, "sluice")
    assert other is snapshot
    assert names(edge) == {each for each in names(other) if each.startswith("m/")}
    listeners = edge.types[resource_types.LISTENER].resources
    assert (
        listeners[LISTENER].version
        != other.types[resource_types.LISTENER].resources[LISTENER].version
    )
    runtime = edge.types[resource_types.RUNTIME].resources[CONFIG_RUNTIME].body
    assert b"envoy.reloadable_features.x" in runtime
    routes = edge.types[ROUTES].resources["gateway"].body
    assert b"m/native" in routes
    assert b"n/native" not in routes


@pytest.mark.parametrize("locality", [("us", "a"), ("europe", ""), ("", "")])
def test_an_envoy_elsewhere_is_not_in_the_group(locality: tuple[str, str]) -> None:
    snapshot = compiled(**CONFIG, node_groups={"edge": EDGE})
    assert snapshot_of(snapshot, "edge-1", locality) is snapshot


def test_an_old_envoy_in_a_group_gets_no_native_routes() -> None:
    snapshot = compiled(**CONFIG, node_groups={"edge": EDGE})
    old = snapshot_of(snapshot, "edge-1", minor=36)
    assert names(old) == {each for each in names(snapshot) if each.startswith("m/")}
    assert b"/native" not in old.types[ROUTES].resources["gateway"].body


def test_a_group_without_envoys_is_not_built() -> None:
    snapshot = compiled(**CONFIG, node_groups={"edge": EDGE})
    snapshot_of(snapshot, "sluice")
    assert not any(each.is_built for each in snapshot.variants.values())


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"match": {}}, "write ids, clusters or localities"),
        ({"match": {"ids": ["a*b"]}}, "or its beginning and an asterisk"),
        ({"match": {"ids": ["a"]}, "models": ["mm"]}, "no model has this name; did you mean m"),
        (
            {"match": {"ids": ["a"]}, "listener": {"address": "127.0.0.1:8081"}},
            "another server of this machine has 127.0.0.1:8081",
        ),
    ],
)
def test_the_error_of_a_group_says_what_to_write(group: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GatewayConfig.model_validate({**CONFIG, "node_groups": {"g": group}})


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({}, "would move the listener from 127.0.0.1:18443 to 127.0.0.1:8080"),
        ({"edge": {**EDGE, "models": ["n"]}}, "the group edge would serve no model"),
        ({"edge": {**EDGE, "listener": {}}}, "would move the listener"),
    ],
)
def test_a_change_that_cuts_off_the_clients_of_a_group_is_refused(
    after: dict[str, object], message: str
) -> None:
    running, changed = (
        GatewayConfig.model_validate({**CONFIG, "node_groups": each})
        for each in ({"edge": EDGE}, after)
    )
    check_change(running, running)
    with pytest.raises(ConfigError, match=message):
        check_change(running, changed)
