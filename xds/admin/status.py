"""The status of the control plane: the version in force, the latest error, and every node."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from pydantic import BaseModel

from sluice.config import GatewayConfig, PolicyDocument, Problem
from sluice.config.endpoints import OUTDATED_ENDPOINTS, EndpointsFrom
from sluice.config.errors import MAX_PROBLEMS, KeyPath
from sluice.config.finding import Finding
from sluice.config.node_groups import NodeGroup, group_of
from sluice.config.validation import shown_path, shown_pointer
from xds.admin.placement import PlacementCache, PlacementStatus
from xds.admin.traffic import (
    BreakersStatus,
    ReporterStatus,
    VersionTraffic,
    breakers_status,
    reporters_status,
    version_traffic,
)
from xds.canary.automation import DECISIONS
from xds.envoys.configured import configure
from xds.envoys.fleet import EndpointView, EnvoyView, Fleet
from xds.envoys.observations import Observations
from xds.envoys.warned import warned_by_envoys
from xds.events import Events
from xds.protocol.nodes import Node, NodeKind, Nodes
from xds.protocol.snapshot import Snapshot
from xds.protocol.stream import TypeState
from xds.resources.compiled import CompiledConfig
from xds.resources.envoy_versions import CALLOUT_ONLY, gets_native_routes, is_envoy
from xds.rollout.rollout import Rollout


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
    """One connected node.

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
    judged (`rollout.watch`). `config` is the name of the config source. `error`
    explains why the latest config is not in force; None if it is in force. `warnings` are about the
    config in force: those of its analysis, and those about endpoints that an Envoy sees.
    `changed_at` is the time at which the latest valid config was read, in Unix seconds. `callout`
    is the address of the callout's status (`telemetry.metrics.address`), and `callout_tls` says
    whether it speaks TLS. For commands, `listener`
    and `xds` are the addresses of Envoy and of the xDS server, and `worker_addresses` those of the
    workers. `traffic` has at most `MAX_TRAFFIC` versions, those with the most errors and requests.
    """

    version: str | None
    revision: int | None
    in_sync: bool
    step: str | None
    watched: int | None
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


class EndpointErrors(Protocol):
    """The part of the endpoint sources that the status shows."""

    @property
    def errors(self) -> Mapping[EndpointsFrom, str]:
        """Why the endpoints of an origin may be outdated."""


def _outdated(config: GatewayConfig, errors: Mapping[EndpointsFrom, str]) -> Iterator[Finding]:
    for path, version in config.versions() if errors else ():
        if version.endpoints_from is not None and version.endpoints_from in errors:
            error = errors[version.endpoints_from]
            yield Finding.of(OUTDATED_ENDPOINTS, (*path, "endpoints_from"), error)


class ControlPlaneState:
    """Combines the states of source, rollout and nodes. `source` is the config source's name."""

    def __init__(
        self,
        source: str,
        compiled: CompiledConfig,
        nodes: Nodes,
        rollout: Rollout,
        observations: Observations | None = None,
        endpoints: EndpointErrors | None = None,
        events: Events | None = None,
    ) -> None:
        self._source = source
        self._nodes = nodes
        self._rollout = rollout
        self._compiled = compiled
        self._endpoints = endpoints
        self.fleet = Fleet(self.served, time.time, events)
        """What the Envoys see."""
        self.observations = observations or Observations()
        """What Envoys and workers saw of each version. Its clock is `time.monotonic`."""
        self._observe(compiled)
        self._placement = PlacementCache()
        self._config_error: str | None = None
        self._changed_at = time.time()
        self.reads = {"accepted": 1, "refused": 0}
        """Numbers of valid (accepted) and invalid (refused) configs that have been read."""
        self.canary_decisions: Counter[str] = Counter(dict.fromkeys(DECISIONS, 0))
        """What this control plane has decided about canaries with steps."""

    @property
    def config(self) -> GatewayConfig:
        """The latest valid config."""
        return self._compiled.config

    def served(self) -> GatewayConfig:
        """The config in force, or the latest one before, with the endpoints that were found."""
        return (self._rollout.in_force or self._compiled).served

    @property
    def in_force(self) -> GatewayConfig | None:
        """The config in force; None before the first."""
        compiled = self._rollout.in_force
        return None if compiled is None else compiled.config

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings about the latest valid config."""
        return self._compiled.warnings

    def on_config(self, compiled: CompiledConfig) -> None:
        """Record a valid config."""
        self._compiled, self._config_error, self._changed_at = compiled, None, time.time()
        self.reads["accepted"] += 1
        self._observe(compiled)

    def _observe(self, compiled: CompiledConfig) -> None:
        """Count the traffic of the versions of this config and of that in force."""
        in_force = self.in_force
        configure(self.observations, (compiled.config, *(() if in_force is None else (in_force,))))

    def on_invalid_config(self, error: str) -> None:
        """Record an invalid config."""
        self._config_error = error
        self.reads["refused"] += 1

    @property
    def policy_in_force(self) -> PolicyDocument | None:
        """The policy in force; None before the first."""
        compiled = self._rollout.in_force
        return None if compiled is None or compiled.loaded is None else compiled.loaded.policy

    @property
    def published_version(self) -> str | None:
        """The config version that is published to the nodes; None before the first."""
        return self._nodes.snapshot.version

    def lag(self, node: NodeStatus) -> float:
        """Seconds since a node could have got the published resources."""
        return max(0.0, self._nodes.now() - max(self._nodes.published_at, node.connected_at))

    def status(self, *, traffic: bool = True) -> Status:
        """The current status; `traffic`: with the windows of versions, which takes some time."""
        result, now = self._rollout.result, time.monotonic()
        groups = self.config.node_groups
        nodes = [_node(node, self._nodes.snapshot_of(node), groups) for node in self._nodes]
        return Status(
            version=self._rollout.version,
            revision=self._revision_in_force(),
            in_sync=self._rollout.in_sync,
            step=self._rollout.step,
            watched=self._rollout.watched,
            config=self._source,
            error=self._config_error or self._rejection(),
            warnings=tuple(self._warnings_in_force()),
            unresponsive=result.unresponsive if result else (),
            restart_required=self._compiled.restart_required,
            changed_at=self._changed_at,
            callout=self.config.telemetry.metrics.address,
            callout_tls=self.config.identity is not None and self.config.identity.mutual,
            listener=self.config.listener.address,
            xds=self.config.control_plane.xds,
            worker_addresses=self.config.callout.addresses(),
            placement=self._placement.status(self.in_force),
            nodes=sorted(nodes, key=lambda node: (node.kind, node.id)),
            envoys=[_envoy(view, time.time()) for view in self.fleet.envoys],
            traffic=version_traffic(self.observations, now) if traffic else [],
            breakers=breakers_status(self.served(), self.observations, now),
            reporters=reporters_status(self.observations, now),
        )

    def _revision_in_force(self) -> int | None:
        compiled = self._rollout.in_force
        return None if compiled is None or compiled.loaded is None else compiled.loaded.revision

    def _warnings_in_force(self) -> Iterator[Problem]:
        compiled = self._rollout.in_force
        if compiled is not None:
            yield from compiled.warnings
            seen = islice(warned_by_envoys(compiled.served, self.fleet.envoys), MAX_PROBLEMS)
            yield from (each.warning(self._place) for each in seen)
            errors = {} if self._endpoints is None else self._endpoints.errors
            found = islice(_outdated(compiled.config, errors), MAX_PROBLEMS)
            yield from (each.warning(self._place) for each in found)

    def _place(self, path: KeyPath, message: str) -> Problem:
        """A problem without its line: the text of the config is not kept."""
        return Problem(self._source, 0, shown_path(path), message, pointer=shown_pointer(path))

    def _rejection(self) -> str | None:
        """How the latest rollout failed, or a NACK that a node sent when it connected later."""
        result = self._rollout.result
        if result is not None and result.failure is not None:
            return result.failure
        nacks = (node.nack() for node in self._nodes)
        return next((str(nack) for nack in nacks if nack is not None), None)


def _envoy(view: EnvoyView, now: float) -> EnvoyStatus:
    return EnvoyStatus(
        source=view.source,
        node=view.node,
        error=view.error,
        answered_at=view.answered_at,
        age=None if view.answered_at is None else max(0.0, now - view.answered_at),
        endpoints=view.endpoints,
    )


def _node(node: Node, snapshot: Snapshot, groups: Mapping[str, NodeGroup]) -> NodeStatus:
    pid = node.metadata.get("pid")
    return NodeStatus(
        id=node.id,
        kind=node.kind,
        agent=node.agent,
        pid=int(pid) if isinstance(pid, float | int) else None,
        version=node.version,
        variant="" if not is_envoy(node) or gets_native_routes(node) else CALLOUT_ONLY,
        group=group_of(groups, node.id, node.cluster, node.locality) if is_envoy(node) else None,
        cluster=node.cluster,
        locality=node.locality,
        connected_at=node.connected_at,
        types={
            each.name: _type(state, node.stream.in_sync(snapshot, (each,)))
            for each, state in node.stream.types.items()
        },
    )


def _type(state: TypeState, in_sync: bool) -> TypeStatus:
    return TypeStatus(
        in_sync=in_sync,
        acked=state.acked.info if state.acked else None,
        nacked=state.nacked.info if state.nacked else None,
        reason=state.reason,
        at=state.at,
    )
