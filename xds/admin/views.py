"""Reads of the state: status, nodes, endpoints and breakers."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from sluice.config import GatewayConfig
from sluice.contract.names import cluster_name
from xds.admin.access import Role
from xds.admin.api.operations import Call, Operation
from xds.admin.placement import PlacementCache
from xds.admin.status import NodeStatus, Status, node_statuses, status_of
from xds.admin.traffic import Breakers, all_breakers
from xds.envoys.endpoint_state import EndpointState
from xds.envoys.video_streams import StreamView
from xds.protocol.nodes import NodeKind, Nodes
from xds.state import ControlPlaneState

NodeState = Literal["ack", "nack", "pending"]


class NodeView(BaseModel):
    """One connected node.

    `state`: the node has accepted the published config (`ack`), has rejected a part of it (`nack`,
    with `reason`), or has not answered yet (`pending`). `version` is the config version that it
    accepted completely last. `lag` is the time in seconds for which it has not accepted the
    published config; 0 if it has. `types` are the resource types that are not in sync.
    """

    id: str
    kind: NodeKind
    agent: str
    version: str | None
    state: NodeState
    reason: str | None
    lag: float
    connected_at: float
    types: list[str]


class NodeViews(BaseModel):
    """All connected nodes. `version` is the config version that is published now."""

    version: str | None
    nodes: list[NodeView]


class SeenEndpoint(BaseModel):
    """An endpoint as one Envoy sees it. `node` is the id of the Envoy.

    `why` says why it is not healthy. `since` is the Unix time at which the state was seen first.
    """

    node: str | None
    state: EndpointState
    why: str
    since: float


class ModelEndpoint(BaseModel):
    """An endpoint of a version in force, and how each Envoy sees it."""

    model: str
    version: str
    address: str
    weight: int
    drain: bool
    seen: list[SeenEndpoint]


class ModelEndpoints(BaseModel):
    """All endpoints of the models in force."""

    endpoints: list[ModelEndpoint]


class VideoViews(BaseModel):
    """The streams of the video service, as its workers report them: cameras, then uploads."""

    streams: list[StreamView]


class Views:
    """The handlers."""

    def __init__(self, state: ControlPlaneState) -> None:
        self._state = state
        self._placement = PlacementCache()

    def operations(self) -> tuple[Operation, ...]:
        """The operations on the state."""
        return (
            Operation(
                "GET", "/v1/status", Role.READER,
                "State of the control plane, its nodes and what the Envoys see",
                self._status, Status,
            ),
            Operation(
                "GET", "/v1/nodes", Role.READER,
                "Which node has accepted or rejected which version", self._nodes, NodeViews,
            ),
            Operation(
                "GET", "/v1/endpoints", Role.READER,
                "Endpoints of the models, and how each Envoy sees them",
                self._endpoints, ModelEndpoints,
            ),
            Operation(
                "GET", "/v1/breakers", Role.READER,
                "State of the breakers, as the workers report it", self._breakers, Breakers,
            ),
            Operation(
                "GET", "/v1/videos", Role.READER,
                "Streams of the video service, as its workers report them", self._videos,
                VideoViews,
            ),
        )  # fmt: skip

    async def _status(self, _: Call) -> Status:
        return status_of(self._state, self._placement)

    async def _nodes(self, _: Call) -> NodeViews:
        state = self._state
        nodes = [_node(node, _lag(node, state.nodes)) for node in node_statuses(state)]
        return NodeViews(version=state.published_version, nodes=nodes)

    async def _endpoints(self, _: Call) -> ModelEndpoints:
        config = self._state.served()
        seen: dict[tuple[str, str], list[SeenEndpoint]] = defaultdict(list)
        for envoy in self._state.fleet.envoys:
            for each in envoy.endpoints:
                state: EndpointState = "unknown" if envoy.error else each.state
                seen[each.cluster, each.address].append(
                    SeenEndpoint(
                        node=envoy.node, state=state, why=envoy.error or each.why, since=each.since
                    )
                )
        return ModelEndpoints(endpoints=list(_configured(config, seen)))

    async def _videos(self, _: Call) -> VideoViews:
        return VideoViews(streams=self._state.videos.views(time.monotonic()))

    async def _breakers(self, _: Call) -> Breakers:
        return all_breakers(self._state.served(), self._state.observations, time.monotonic())


def _lag(node: NodeStatus, nodes: Nodes) -> float:
    """Seconds since the node could have got the published resources."""
    return max(0.0, nodes.now() - max(nodes.published_at, node.connected_at))


def _node(node: NodeStatus, lag: float) -> NodeView:
    behind = [name for name, each in node.types.items() if not each.in_sync]
    rejected = [each for each in node.types.values() if each.nacked is not None]
    state: NodeState = "nack" if rejected else "pending" if behind or not node.types else "ack"
    return NodeView(
        id=node.id,
        kind=node.kind,
        agent=node.agent,
        version=node.version,
        state=state,
        reason=rejected[0].reason if rejected else None,
        lag=0.0 if state == "ack" else lag,
        connected_at=node.connected_at,
        types=behind,
    )


def _configured(
    config: GatewayConfig, seen: dict[tuple[str, str], list[SeenEndpoint]]
) -> Iterator[ModelEndpoint]:
    for model, found in config.models.items():
        for version, each in found.versions.items():
            for endpoint in each.endpoints:
                yield ModelEndpoint(
                    model=model,
                    version=version,
                    address=endpoint.address,
                    weight=endpoint.weight,
                    drain=endpoint.drain,
                    seen=seen.get((cluster_name(model, version), endpoint.address), []),
                )
