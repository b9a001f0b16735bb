"""A client that reconnects keeps clusters that are gone until nobody refers to them any more."""

from dataclasses import dataclass, field

import pytest

from protos.base_pb2 import Node as NodeMessage
from xds.protocol.delta import DeltaRequest, DeltaResponse, DeltaStream
from xds.protocol.nodes import Node, Nodes
from xds.protocol.resource_types import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    POLICY,
    ROUTE,
    SECRET,
    ResourceType,
)
from xds.protocol.snapshot import EMPTY, Resource, Snapshot
from xds.protocol.stream import KEEP

ENVOY_TYPES = (CLUSTER, ENDPOINT, SECRET, LISTENER, ROUTE)


def config(version: str) -> Snapshot:
    """A config whose routes and policy name the cluster `version`."""
    return Snapshot.of(
        {
            CLUSTER: {version: Resource.of(b"cluster")},
            ENDPOINT: {version: Resource.of(b"endpoints")},
            SECRET: {version: Resource.of(b"secret")},
            LISTENER: {"gateway": Resource.of(b"listener")},
            ROUTE: {"gateway": Resource.of(version.encode())},
            POLICY: {"policy": Resource.of(version.encode())},
        },
        version,
    )


@dataclass
class Client:
    """A node that connects again, with the resources of an earlier config."""

    nodes: Nodes
    had: Snapshot
    aggregated: bool
    types: tuple[ResourceType, ...]
    name: str = "envoy"
    clock: float = 0.0
    removed: dict[ResourceType, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = [self.types] if self.aggregated else [(each,) for each in self.types]
        self.streams: dict[ResourceType, tuple[DeltaStream, Node]] = {}
        for group in groups:
            stream = DeltaStream(self.aggregated)
            node = self.nodes.connect(stream)
            self.nodes.identify(node, NodeMessage(id=self.name))
            for each in group:
                self.streams[each] = stream, node
                self._subscribe(each)

    def _subscribe(self, each: ResourceType) -> None:
        had = {n: found.version_text for n, found in self.had.types[each].resources.items()}
        names = () if each.wildcard else tuple(had)
        self._send(DeltaRequest(each, subscribe=names, versions=had))

    def _send(self, request: DeltaRequest) -> None:
        stream, node = self.streams[request.type]
        self.nodes.on_request(node, request.type, stream.on_request(request, now=0))

    def receive(self) -> list[DeltaResponse]:
        """The responses that are due, which the client has not answered yet."""
        found = []
        for node, stream in {node: stream for stream, node in self.streams.values()}.items():
            self.nodes.remove_kept(node, self.clock)
            due = list(stream.responses(self.nodes.snapshot_of(node), self.clock))
            self.nodes.on_responses(node)
            found += due
        for each in found:
            if each.changes.removed:
                self.removed.setdefault(each.type, set()).update(each.changes.removed)
        return found

    def accept(self, responses: list[DeltaResponse]) -> None:
        for each in responses:
            self._send(DeltaRequest(each.type, nonce=each.nonce))
            if each.type is CLUSTER and each.changes.resources:
                # Envoy requests the endpoints and secrets of a new cluster.
                for other in self.streams.keys() & {ENDPOINT, SECRET}:
                    self._send(DeltaRequest(other, subscribe=tuple(each.changes.resources)))


@pytest.fixture
def nodes() -> Nodes:
    return Nodes(lambda: 0.0)


@pytest.mark.parametrize("aggregated", [True, False], ids=["ads", "separate"])
def test_a_cluster_is_removed_after_the_routes_and_policies_that_name_it(
    nodes: Nodes, aggregated: bool
) -> None:
    nodes.publish(config("new"))
    envoy = Client(nodes, config("old"), aggregated, ENVOY_TYPES)
    worker = Client(nodes, config("old"), True, (POLICY,), "worker")
    Client(nodes, config("old"), True, ENVOY_TYPES, "another envoy")  # it does not respond
    routes: list[DeltaResponse] = []
    while responses := envoy.receive():
        routes += [each for each in responses if each.type is ROUTE]
        envoy.accept([each for each in responses if each.type is not ROUTE])
    policies = worker.receive()
    assert len(routes) == len(policies) == 1
    assert envoy.removed == {}

    envoy.clock = KEEP
    assert envoy.receive() == []  # the Envoy has not accepted the new routes
    envoy.accept(routes)
    envoy.clock += KEEP
    assert envoy.receive() == []  # the worker has not accepted the new policy
    worker.accept(policies)
    for _ in ENVOY_TYPES:  # one stream after the other
        envoy.clock += KEEP
        envoy.accept(envoy.receive())
    assert envoy.removed == {CLUSTER: {"old"}, ENDPOINT: {"old"}, SECRET: {"old"}}
    assert envoy.receive() == []
    assert all(node.stream.in_sync(config("new")) for _, node in envoy.streams.values())


def test_a_cluster_is_kept_while_workers_may_not_have_connected_yet(nodes: Nodes) -> None:
    nodes.publish(config("new"))
    envoy = Client(nodes, config("old"), True, ENVOY_TYPES)
    while responses := envoy.receive():
        envoy.accept(responses)
    assert nodes.all_in_sync(ENVOY_TYPES)
    envoy.clock = KEEP - 0.1
    assert (envoy.receive(), envoy.removed) == ([], {})
    (stream, _), *_ = envoy.streams.values()
    assert stream.renew_at == KEEP
    envoy.clock = KEEP
    assert envoy.receive()
    assert stream.renew_at is None


def test_nothing_is_removed_during_the_first_rollout(nodes: Nodes) -> None:
    """It begins with clusters alone: the routes and policies that others have are not known yet."""
    first = config("new")
    nodes.publish(EMPTY.with_types({CLUSTER: first.types[CLUSTER]}))
    envoy = Client(nodes, config("old"), True, (CLUSTER,))
    envoy.accept(envoy.receive())
    envoy.clock = KEEP
    assert (envoy.receive(), envoy.removed) == ([], {})
    nodes.publish(first)
    envoy.clock += KEEP
    envoy.receive()
    assert envoy.removed == {}  # an Envoy with clusters subscribes to listeners too


def test_a_cluster_that_comes_back_is_not_removed(nodes: Nodes) -> None:
    nodes.publish(config("new"))
    envoy = Client(nodes, config("old"), False, (CLUSTER,))
    envoy.accept(envoy.receive())
    nodes.publish(config("old"))
    (back,) = envoy.receive()
    assert (set(back.changes.resources), back.changes.removed) == ({"old"}, ("new",))
    envoy.accept([back])
    envoy.clock = KEEP
    envoy.accept(envoy.receive())
    assert envoy.removed == {CLUSTER: {"new"}}
