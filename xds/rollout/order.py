"""Plans the steps of a rollout: make before break, policy before routes.

Resources are added before other resources refer to them, and removed after the references (see
"Eventual consistency considerations" in the xDS protocol).

Envoy may load a large table of routes for long, and the old native routes of a changed model are
off as soon as the workers have the new policy. So the policy comes first: the callout decides as
the new config says about all requests for that model until Envoy has the new routes.

The workers keep a staged policy until no Envoy has the routes that are marked for it
(`xds.rollout.stage`).

The filter that verifies tokens needs no order: routes of one config admit no token that the filter
of another config has verified in another way (`xds.resources.token_headers`).

A mesh (`xds.istio`) gets new hosts and routes first, keeps the old routes until the workers have
the new policy, and loses old hosts and routes last. istiod accepts resources before its Envoys have
them, so the steps wait for a time.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sluice.contract.names import STAGED
from xds.istio.combined import combined_destination_rules, combined_virtual_services
from xds.protocol import resource_types
from xds.protocol.resource_types import (
    DESTINATION_RULE,
    ISTIO,
    POLICY,
    ROUTE,
    VIRTUAL_SERVICE,
    ResourceType,
)
from xds.protocol.snapshot import (
    NodeIdentity,
    Resource,
    Resources,
    ResourceSet,
    Snapshot,
    Variant,
    VariantOf,
)

MAKE_BEFORE_BREAK: Final = tuple(each for each in resource_types.ALL if each.make_before_break)
"""Types whose resources are added before the other types change, and removed afterwards."""

COMBINED: Final[Mapping[ResourceType, Callable[[Resource, Resource], Resource]]] = {
    DESTINATION_RULE: combined_destination_rules,
    VIRTUAL_SERVICE: combined_virtual_services,
}
"""Types whose resources have parts for several versions. While such a resource changes, the mesh
gets the first one with the parts that only the second one has."""

DRAIN: Final = 1.0
"""Seconds before a cluster is removed, for requests that an old policy has sent to this cluster."""


@dataclass(frozen=True, slots=True)
class Step:
    """A snapshot to publish, and what to wait for before the next step.

    The step ends `pause` seconds after every node has accepted `types`. `in_force`: the new config
    is in force after this step. `extends_mesh`: a mesh gets hosts or routes that it does not have.
    """

    name: str
    snapshot: Snapshot
    types: tuple[ResourceType, ...]
    pause: float = 0.0
    in_force: bool = False
    extends_mesh: bool = False


def steps(
    current: Snapshot,
    new: Snapshot,
    moves: Collection[tuple[str, str]] = (),
    pending: Collection[ResourceType] = (),
    propagation: float = 0.0,
    unsettled: float = 0.0,
) -> list[Step]:
    """The steps from the current snapshot to the new one.

    Steps that change nothing are left out, except for the step that puts the new config in force.
    The last snapshot has the new resources. A type that does not change keeps its `version_info`.
    A variant takes part if a node has needed it and the new snapshot has it. `moves` are the
    variants of the connected nodes, each with the one that they get (`Nodes.moves`). `pending` are
    types of the current snapshot that nodes may not have accepted, because it was replaced: their
    steps take place also if nothing changes. `propagation`: seconds until the Envoys of a mesh have
    what istiod gets. `unsettled`: seconds left until they have what an earlier rollout has added.
    """
    default = _Phases.between(current, new)
    built = {
        (name, name)
        for name, variant in current.variants.items()
        if variant.is_built and name in new.variants
    }
    variants = {
        (old, name): _Phases.between(current.of_variant(old), new.of_variant(name))
        for old, name in sorted(built.union(moves))
        if old or name
    }

    every = (default, *variants.values())
    removes = any(each.removes for each in every)
    moving = any(old != name for old, name in variants)

    def published(phase: Callable[[_Phases], Snapshot], *, last: bool = False) -> Snapshot:
        """The step for every node. A node that moves has a variant of its own until the last."""
        name_of = _last_name if last else moving_name
        found = {name_of(*key): Variant.built(phase(each)) for key, each in variants.items()}
        found.pop("", None)
        variant_of = _Moving(new.variant_of) if moving and not last else new.variant_of
        return replace(phase(default), variants={**new.variants, **found}, variant_of=variant_of)

    plan = []
    makes = any(each.makes for each in every) or not set(pending).isdisjoint(MAKE_BEFORE_BREAK)
    if makes or unsettled:
        extends = _extends_mesh(default.current, default.made)
        plan.append(
            Step(
                "make",
                published(lambda each: each.made),
                MAKE_BEFORE_BREAK,
                pause=propagation if extends else unsettled,
                extends_mesh=extends,
            )
        )
    decides = any(each.routes for each in every) and any(each.decides for each in every)
    if decides or POLICY in pending:
        plan.append(Step("decide", published(lambda each: each.decided), (POLICY,)))
    reduces = _mesh_differs(default.switched, default.target)
    drain = max(DRAIN, propagation) if reduces else DRAIN
    plan.append(
        Step(
            "switch",
            published(lambda each: each.switched, last=not removes),
            resource_types.ALL,
            pause=drain if removes else 0.0,
            in_force=True,
        )
    )
    if removes:
        plan.append(
            Step("remove", published(lambda each: each.target, last=True), resource_types.ALL)
        )
    return plan


@dataclass(frozen=True, slots=True)
class _Moving:
    """Chooses variants during a rollout that gives nodes other variants than they have.

    A node that connects meanwhile gets its new variant at once.
    """

    after: VariantOf

    def __call__(self, node: NodeIdentity) -> str:
        name = self.after(node)
        return name if node.variant is None else moving_name(node.variant, name)


def moving_name(old: str, new: str) -> str:
    """The name of the variant of nodes that move from one variant to another."""
    return old if old.rpartition(_MOVE)[2] == new else f"{old}{_MOVE}{new}"


def _last_name(_: str, new: str) -> str:
    return new


_MOVE: Final = ">"
"""Names of variants have no such character."""


@dataclass(frozen=True, slots=True)
class _Phases:
    """The snapshots from the current one to the new one (`target`), for nodes of one variant."""

    current: Snapshot
    made: Snapshot
    decided: Snapshot
    switched: Snapshot
    target: Snapshot

    @classmethod
    def between(cls, current: Snapshot, new: Snapshot) -> "_Phases":
        """The snapshots between these two."""
        target = new.with_types(_unchanged(current, new))
        before = {each: _both(each, current, target, old=True) for each in MAKE_BEFORE_BREAK}
        after = {each: _both(each, current, target, old=False) for each in COMBINED}
        made = current.with_types(before)
        policy = {POLICY: _with_staged(current, target)}
        switched = target.with_types({**before, **after, **policy})
        return cls(current, made, made.with_types(policy), switched, target)

    @property
    def makes(self) -> bool:
        return not self.made.has_same_resources(self.current)

    @property
    def routes(self) -> bool:
        """Whether routes that nodes have change."""
        before = self.made.types[ROUTE]
        return before.published and self.target.types[ROUTE].version != before.version

    @property
    def decides(self) -> bool:
        """Whether the policy changes, which must come before the routes."""
        return not self.decided.has_same_resources(self.made)

    @property
    def removes(self) -> bool:
        return not self.target.has_same_resources(self.switched)


def _mesh_differs(one: Snapshot, other: Snapshot) -> bool:
    return any(one.types[each].version != other.types[each].version for each in ISTIO)


def _extends_mesh(current: Snapshot, made: Snapshot) -> bool:
    """Whether the mesh gets hosts, subsets or routes. Other endpoints of a host need no time."""
    return any(
        made.types[each].version != current.types[each].version
        if each in COMBINED
        else not made.types[each].names <= current.types[each].names
        for each in ISTIO
    )


def _unchanged(current: Snapshot, new: Snapshot) -> Mapping[ResourceType, ResourceSet]:
    return {
        resource_type: old
        for resource_type, old in current.types.items()
        if old.published and old.version == new.types[resource_type].version
    }


def _with_staged(current: Snapshot, new: Snapshot) -> ResourceSet:
    """The new policy, and the staged one as long as Envoys have routes that are marked for it."""
    policy, before = new.types[POLICY], current.types[POLICY].resources
    staged = {name: each for name, each in before.items() if name.startswith(STAGED)}
    if not staged or any(name.startswith(STAGED) for name in policy.resources):
        return policy
    return ResourceSet.of({**staged, **policy.resources}, f"{new.version}-staged")


def _both(
    resource_type: ResourceType, current: Snapshot, new: Snapshot, *, old: bool
) -> ResourceSet:
    """Old and new resources together. For a name that both have, the new resource.

    Or both combined (`COMBINED`): the `old` one with what only the new one has, or the reverse. If
    the old or the new ones are all of them, they keep their `version_info`.
    """
    before, added = current.types[resource_type], new.types[resource_type]
    kept = _kept(resource_type, current, new)
    resources = {**kept, **added.resources}
    combine = COMBINED.get(resource_type)
    if combine is not None:
        for name in kept.keys() & added.resources.keys():
            pair = (kept[name], added.resources[name])
            if pair[0].version != pair[1].version:
                resources[name] = combine(*(pair if old else reversed(pair)))
    both = ResourceSet.of(resources, f"{new.version}-make")
    known = (each for each in (before, added) if each.published and each.version == both.version)
    return next(known, both)


def _kept(resource_type: ResourceType, current: Snapshot, new: Snapshot) -> Resources:
    """The old resources that are needed until the new config is in force.

    An old resource has the name of its referrer. If the new config replaces the referrer, no node
    subscribes to the old resource any more: the endpoints of a cluster that gets host names.
    """
    old = current.types[resource_type].resources
    if resource_type.referrer is None:
        return old
    replaced = new.types[resource_type.referrer].resources
    return {name: resource for name, resource in old.items() if name not in replaced}
