"""Envoys of different versions at one control plane."""

import pytest
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import JwtAuthentication

from protos.base_pb2 import Node as NodeMessage
from sluice.contract.names import (
    CALLOUT_AGENT,
    JWT_FILTER,
    NATIVE_RUNTIME,
    RUNTIME_METADATA,
    native_route_name,
)
from tests.extproc.auth.tokens import key_set, rsa_jwk
from tests.xds.resources.test_resources import compiled, model
from tests.xds.rollout.nodes_in_memory import Client, native_envoy
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import EXTENSION, LISTENER, ROUTE
from xds.protocol.snapshot import Snapshot
from xds.resources.envoy_versions import OLDEST_NATIVE

ISSUER = {
    "issuer": "https://issuer.test",
    "audiences": ["a"],
    "algorithms": ["RS256"],
    "jwks": key_set(rsa_jwk(kid="one")),
    "leeway": 30,
}
CONFIG = {"auth": {"issuers": [ISSUER]}, "models": {"m": model(), "n": model(placement="auto")}}


def connected(
    nodes: Nodes,
    agent: str,
    version: tuple[int, int, int] | None,
    layer: str = NATIVE_RUNTIME,
    cluster: str = "",
) -> Client:
    """A node with this agent, version and runtime layer that has received everything."""
    client = native_envoy(nodes, f"{agent} {version}")
    message = NodeMessage(id=client.name, user_agent_name=agent, cluster=cluster)
    message.metadata.update({RUNTIME_METADATA: layer})
    if version is not None:
        built = message.user_agent_build_version.version
        built.major_number, built.minor_number, built.patch = version
    nodes.identify(client.node, message)
    client.names[EXTENSION] = tuple(nodes.snapshot.types[EXTENSION].resources)
    while client.receive():
        pass
    return client


def is_native(client: Client) -> bool:
    """Whether the node has native routes and a filter for them: always both or none."""
    latest = {response.type: response.resources for response in client.received}
    filters = TypedExtensionConfig.parse(latest[EXTENSION][JWT_FILTER].body).typed_config
    assert filters is not None
    routes = any(native_route_name("m").encode() in each.body for each in latest[ROUTE].values())
    assert bool(JwtAuthentication.parse(filters.value).providers) is routes
    return routes


def published(snapshot: Snapshot) -> Nodes:
    nodes = Nodes(lambda: 0.0)
    nodes.publish(snapshot)
    return nodes


@pytest.mark.parametrize(
    ("version", "native"),
    [
        (OLDEST_NATIVE, True),
        ((1, 40, 0), True),
        ((2, 0, 0), True),
        ((1, 36, 4), False),
        ((0, 99, 0), False),
        (None, False),
    ],
)
def test_only_an_envoy_of_a_known_new_version_gets_native_routes(
    version: tuple[int, int, int] | None, native: bool
) -> None:
    nodes = published(compiled(**CONFIG))
    assert is_native(connected(nodes, "envoy", version)) is native
    assert nodes.out_of_sync([EXTENSION, ROUTE]) == []


def test_an_envoy_without_the_runtime_layer_gets_no_native_routes() -> None:
    nodes = published(compiled(**CONFIG))
    assert not is_native(connected(nodes, "envoy", (1, 40, 0), layer="other"))


def test_envoys_of_both_kinds_accept_one_version_together() -> None:
    snapshot = compiled(**CONFIG)
    nodes = published(snapshot)
    new, old = connected(nodes, "envoy", (1, 40, 0)), connected(nodes, "envoy", (1, 36, 4))
    assert [is_native(new), is_native(old)] == [True, False]
    assert {new.node.version, old.node.version} == {snapshot.version}


def test_other_clients_build_no_variant() -> None:
    snapshot = compiled(**CONFIG)
    nodes = published(snapshot)
    for agent in (CALLOUT_AGENT, "ratelimit", ""):
        connected(nodes, agent, None)
    assert not any(variant.is_built for variant in snapshot.variants.values())


def holds_requests(client: Client) -> bool:
    """Whether the listener of the node holds requests until there is their cluster."""
    latest = {response.type: response.resources for response in client.received}
    (listener,) = latest[LISTENER].values()
    return b"envoy.filters.http.on_demand" in listener.body


@pytest.mark.parametrize("placement", ["auto", "callout"])
def test_an_envoy_before_1_38_or_with_another_bootstrap_holds_no_requests(placement: str) -> None:
    group = {"match": {"clusters": ["edge"]}, "models": ["m"]}
    config = {**CONFIG, "placement": placement, "node_groups": {"edge": group}}
    for cluster in ("", "edge"):
        nodes = published(compiled(**config))
        new, old = (connected(nodes, "envoy", (1, minor, 9), cluster=cluster) for minor in (38, 37))
        other = connected(nodes, "envoy", (1, 38, 9), layer="other", cluster=cluster)
        assert [*map(holds_requests, (new, old, other))] == [True, False, False]
        if placement == "auto":
            assert [*map(is_native, (new, old, other))] == [True, True, False]


def test_the_agent_of_a_node_has_the_version_of_its_build() -> None:
    client = connected(published(compiled(**CONFIG)), "envoy", (1, 37, 2))
    assert client.node.agent == "envoy 1.37.2"
    assert client.node.build_version == (1, 37, 2)
