"""The stage of a rollout: some Envoys have the next config, and the others that in force.

The workers have the policies of both configs (`xds.resources.stage`).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self

from sluice.contract.names import CALLOUT_AGENT, STAGED
from xds.protocol.nodes import Nack, Node, Nodes
from xds.protocol.resource_types import LISTENER, POLICY, ROUTE
from xds.protocol.snapshot import NodeIdentity, ResourceSet, Snapshot, Variant, VariantOf
from xds.resources.compiled import CompiledConfig
from xds.resources.stage import marked_routes, staged_policies, staged_version
from xds.rollout.choice import chosen, envoys
from xds.rollout.plan import TICK, Plan, Stage

ABSENT: Final = 10.0
"""Seconds without any of the staged Envoys after which the stage fails: the config may have ended
them, and nobody judges it. An Envoy whose connection has ended is back sooner."""

RETURN: Final = 60.0
"""As `ABSENT`, after a start of the control plane: each Envoy must find it again, and waits up to
30 s between two attempts."""


@dataclass(frozen=True, slots=True)
class StageView:
    """A version that only some Envoys have at first.

    `begun` is the revision with which the stage has begun, and `revision` the latest of it: a
    canary may have made steps. `share` is the share of the Envoys that was asked for, and `nodes`
    are their ids. `remaining`: seconds until the other Envoys follow, unless the staged ones are
    worse.
    """

    version: str | None
    revision: int | None
    begun: int | None
    share: float
    nodes: tuple[str, ...]
    remaining: float


@dataclass(frozen=True, slots=True)
class StageVariants:
    """Chooses variants during a stage: those of the next config for the Envoys with these ids."""

    nodes: frozenset[str]
    before: VariantOf
    after: VariantOf

    def __call__(self, node: NodeIdentity) -> str:
        is_worker = node.agent.partition(" ")[0] == CALLOUT_AGENT
        if is_worker or node.id not in self.nodes:
            return self.before(node)
        return f"{STAGED}{self.after(node)}"


def staged_snapshot(before: Snapshot, after: Snapshot, nodes: frozenset[str]) -> Snapshot:
    """The snapshot with which these Envoys have the config `after`, and the others `before`."""
    policy = staged_policies(after.types[POLICY].resources, nodes)
    policies = {**before.types[POLICY].resources, **policy}
    types = {POLICY: ResourceSet.of(policies, f"{before.version}-{after.version}")}
    variants = {name: each for name, each in before.variants.items() if not _is_staged(name)}
    for name in ("", *after.variants):
        if not _is_staged(name):
            variants[f"{STAGED}{name}"] = Variant(partial(_marked, after, name))
    variant_of = StageVariants(nodes, before.variant_of, after.variant_of)
    return replace(before.with_types(types), variants=variants, variant_of=variant_of)


def unstaged(published: Snapshot, before: Snapshot) -> Snapshot:
    """The config `before` of a published snapshot with a stage, without the stage."""
    variants = {name: each for name, each in published.variants.items() if not _is_staged(name)}
    types = {POLICY: before.types[POLICY]}
    return replace(published.with_types(types), variants=variants, variant_of=before.variant_of)


def has_other_stage(published: Snapshot, version: str | None) -> bool:
    """Whether workers have a staged policy of another version."""
    return staged_version(published.types[POLICY].resources) not in (None, version)


def _is_staged(variant: str) -> bool:
    return variant.startswith(STAGED)


def _marked(after: Snapshot, variant: str) -> Snapshot:
    snapshot = after.of_variant(variant)
    assert after.version is not None
    tables, listeners = (snapshot.types[each].resources for each in (ROUTE, LISTENER))
    routes = marked_routes(tables, listeners, after.version)
    return snapshot.with_types({ROUTE: ResourceSet.of(routes, after.version)})


@dataclass(slots=True)
class RunningStage:
    """A stage that runs: the staged config, and the Envoys that have it.

    `due` is the time of the next judgement, `until` that of the last one.
    """

    target: CompiledConfig
    plan: Plan
    stage: Stage
    nodes: frozenset[str]
    due: float = 0.0
    until: float = 0.0
    _gone_at: float | None = None
    """When the stage fails, unless one of its Envoys connects."""

    @classmethod
    def of(cls, target: CompiledConfig, plan: Plan, nodes: Nodes) -> Self | None:
        """The stage of a plan; None if there is none, or too few Envoys are connected."""
        if plan.stage is None:
            return None
        ids = plan.stage.nodes or chosen(envoys(nodes), plan.stage.share)
        return cls(target, plan, plan.stage, ids) if ids else None

    def view(self, now: float) -> StageView:
        """The stage for operators."""
        return StageView(
            self.target.snapshot.version,
            self.target.revision,
            self.stage.revision,
            self.stage.share,
            tuple(sorted(self.nodes)),
            max(0.0, self.until - now),
        )

    def start(self, now: float) -> None:
        """The staged Envoys have the config now."""
        self.until = now + self.stage.seconds
        self.due = min(now + TICK, self.until)
        if self.stage.nodes:
            self._gone_at = now + RETURN
        if self.stage.trial is not None:
            self.stage.trial.start(self.nodes)

    def end(self) -> None:
        """The stage is over."""
        if self.stage.trial is not None:
            self.stage.trial.end()

    def failure(self, nodes: Nodes, now: float) -> str | None:
        """Why the config must not reach the other Envoys; None if nothing is known."""
        self.due = now + TICK if now >= self.until else min(now + TICK, self.until)
        if self.nodes.isdisjoint(envoys(nodes)):
            self._gone_at = now + ABSENT if self._gone_at is None else self._gone_at
            if now >= self._gone_at:
                return f"no staged Envoy is connected: {named(self.nodes)}"
        else:
            self._gone_at = None
        staged = (node for node in nodes if node.id in self.nodes)
        nack = next(filter(None, (_rejection(node, nodes.snapshot) for node in staged)), None)
        if nack is not None:
            return str(nack)
        return None if self.stage.trial is None else self.stage.trial.failure()

    def is_passed(self, now: float) -> bool:
        """Whether the config may reach the other Envoys."""
        return now >= self.until and self._gone_at is None


def _rejection(node: Node, published: Snapshot) -> Nack | None:
    """A NACK of something that the node has got only because it is staged."""
    own = published.of_variant(node.variant)
    others = published.of_variant((node.variant or "").removeprefix(STAGED))
    for each, state in node.stream.types.items():
        version = own.types[each].version
        if state.nacked == version and version != others.types[each].version:
            return Nack(node.id, each, version, state.reason or "")
    return None


MAX_NAMED: Final = 10
"""Envoys that a message names."""


def named(nodes: Collection[str]) -> str:
    """The ids of Envoys for a message: all, or some and how many there are more."""
    names = sorted(nodes)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
