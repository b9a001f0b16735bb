"""The status of the control plane: the version in force, the latest error, and every node."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel

from sluice.config import Problem
from sluice.config.node_groups import NodeGroup, group_of
from xds.admin.placement import PlacementCache, PlacementStatus
from xds.admin.traffic import (
    BreakersStatus,
    ReporterStatus,
    VersionTraffic,
    breakers_status,
    reporters_status,
    version_traffic,
)
from xds.envoys.fleet import EndpointView, EnvoyView
from xds.envoys.video_streams import StreamView
from xds.protocol.client_streams import by_client
from xds.protocol.nodes import Node, NodeKind, Nodes
from xds.protocol.snapshot import Snapshot
from xds.protocol.stream import TypeState
from xds.resources.envoy_versions import CALLOUT_ONLY, gets_native_routes, is_envoy
from xds.rollout.stage import StageView
from xds.state import ControlPlaneState

MAX_STREAMS: Final = 100
"""Streams of the video service in the status: cameras first. `GET /v1/videos` has all."""


class TypeStatus(BaseModel):
    """One resource type of a node.

    `in_sync`: the node has accepted the published resources. `acked` and `nacked` are the versions
    (`version_info`) that the node accepted and rejected last. `at` is the time of the last ACK or
    NACK, in Unix seconds.
    """

    in_sync: bool
    acked: str | None
    nacked: str | None = None
    reason: str | None = None
    at: float | None = None


class NodeStatus(BaseModel):
    """One connected node, with one stream or several (`xds.protocol.client_streams`).

    `version` is the config version that the node accepted completely last; None if there is none.
    `variant` is `callout-only` for an Envoy that is too old for native routes; empty for others.
    `group` is the node group of an Envoy; None if it has none. `cluster` and `locality` are what
    the node says of itself. `connected_at` is in Unix seconds.
    """

    id: str
    kind: NodeKind
    agent: str
    pid: int | None
    version: str | None
    variant: str
    group: str | None
    cluster: str
    locality: str
    connected_at: float
    types: dict[str, TypeStatus]


class EnvoyStatus(BaseModel):
    """What one Envoy sees. `source` is the address at which the control plane asks it.

    `node` is the id of the Envoy's node; None before its first answer. `error` says why it does not
    answer now; None if it does. `answered_at` is the Unix time of the latest answer, to which
    `endpoints` belong; `age` is the time since then, in seconds.
    """

    source: str
    node: str | None
    error: str | None
    answered_at: float | None
    age: float | None
    endpoints: list[EndpointView]


class Status(BaseModel):
    """The response to `GET /v1/status`.

    `version` is the config version in force, and `revision` its number in the history; None before
    the first. `step` is the current step of a
    rollout; None if no rollout is running. `watched` is the revision in force while its traffic is
    judged (`rollout.watch`). `stage` is the version that only some Envoys have yet; None if all
    have the same. `config` is the name of the config source. `error`
    explains why the latest config is not in force; None if it is in force. `warnings` are about the
    config in force: those of its analysis, and those about endpoints that an Envoy sees.
    `changed_at` is the time at which the latest valid config was read, in Unix seconds. `callout`
    is the address of the callout's status (`telemetry.metrics.address`), and `callout_tls` says
    whether it speaks TLS. For commands, `listener`
    and `xds` are the addresses of Envoy and of the xDS server, and `worker_addresses` those of the
    workers. `traffic` has at most `MAX_TRAFFIC` versions, those with the most errors and requests,
    and `videos` at most `MAX_STREAMS` streams of the video service, those of cameras first.
    """

    version: str | None
    revision: int | None
    in_sync: bool
    step: str | None
    watched: int | None
    stage: StageView | None
    config: str
    error: str | None
    warnings: tuple[Problem, ...]
    unresponsive: tuple[str, ...]
    restart_required: tuple[str, ...]
    changed_at: float
    callout: str
    callout_tls: bool
    listener: str
    xds: str
    worker_addresses: tuple[str, ...]
    placement: PlacementStatus
    nodes: list[NodeStatus]
    envoys: list[EnvoyStatus]
    traffic: list[VersionTraffic]
    breakers: BreakersStatus
    reporters: list[ReporterStatus]
    videos: list[StreamView]


def status_of(state: ControlPlaneState, placement: PlacementCache | None = None) -> Status:
    """The current status. Without `placement`, where requests are decided is found again."""
    rollout, config, now = state.rollout, state.config, time.monotonic()
    result = rollout.result
    return Status(
        version=rollout.version,
        revision=state.revision,
        in_sync=rollout.in_sync,
        step=rollout.step,
        watched=rollout.watched,
        stage=rollout.stage,
        config=state.source,
        error=state.error,
        warnings=state.warnings_in_force(),
        unresponsive=result.unresponsive if result else (),
        restart_required=state.restart_required,
        changed_at=state.changed_at,
        callout=config.telemetry.metrics.address,
        callout_tls=config.identity is not None and config.identity.mutual,
        listener=config.listener.address,
        xds=config.control_plane.xds,
        worker_addresses=config.callout.addresses(),
        placement=(placement or PlacementCache()).status(state.in_force),
        nodes=node_statuses(state),
        envoys=[_envoy(view, time.time()) for view in state.fleet.envoys],
        traffic=version_traffic(state.observations, now),
        breakers=breakers_status(state.served(), state.observations, now),
        reporters=reporters_status(state.observations, now),
        videos=state.videos.views(now)[:MAX_STREAMS],
    )


def node_statuses(state: ControlPlaneState) -> list[NodeStatus]:
    """The connected nodes, with those of a mesh."""
    groups = state.config.node_groups
    found = [
        _node(streams, nodes, groups)
        for nodes in (state.nodes, state.istiods)
        for streams in by_client(nodes)
    ]
    return sorted(found, key=lambda node: (node.kind, node.id))


def _envoy(view: EnvoyView, now: float) -> EnvoyStatus:
    return EnvoyStatus(
        source=view.source,
        node=view.node,
        error=view.error,
        answered_at=view.answered_at,
        age=None if view.answered_at is None else max(0.0, now - view.answered_at),
        endpoints=view.endpoints,
    )


def _node(streams: Sequence[Node], nodes: Nodes, groups: Mapping[str, NodeGroup]) -> NodeStatus:
    """The status of a client: what it says of itself on its first stream, and the types of all."""
    node, pid = streams[0], streams[0].metadata.get("pid")
    types: dict[str, TypeStatus] = {}
    for stream in streams:
        types = {**_types(stream, nodes.snapshot_of(stream)), **types}
    behind = (each for each in streams if not each.stream.in_sync(nodes.snapshot_of(each)))
    return NodeStatus(
        id=node.id,
        kind=node.kind,
        agent=node.agent,
        pid=int(pid) if isinstance(pid, float | int) else None,
        version=next(behind, node).version,
        variant="" if not is_envoy(node) or gets_native_routes(node) else CALLOUT_ONLY,
        group=group_of(groups, node.id, node.cluster, node.locality) if is_envoy(node) else None,
        cluster=node.cluster,
        locality=node.locality,
        connected_at=node.connected_at,
        types=types,
    )


def _types(node: Node, snapshot: Snapshot) -> dict[str, TypeStatus]:
    return {
        each.name: _type(state, node.stream.in_sync(snapshot, (each,)))
        for each, state in node.stream.types.items()
    }


def _type(state: TypeState, in_sync: bool) -> TypeStatus:
    return TypeStatus(
        in_sync=in_sync,
        acked=state.acked.info if state.acked else None,
        nacked=state.nacked.info if state.nacked else None,
        reason=state.reason,
        at=state.at,
    )
