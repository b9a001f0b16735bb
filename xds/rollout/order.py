"""Plans the steps of a rollout: make before break, policy before routes.

Resources are added before other resources refer to them, and removed after the references (see
"Eventual consistency considerations" in the xDS protocol).

Envoy may load a large table of routes for long, and the old native routes of a changed model are
off as soon as the workers have the new policy. So the policy comes first: the callout decides as
the new config says about all requests for that model until Envoy has the new routes.

The filter that verifies tokens needs no order: routes of one config admit no token that the filter
of another config has verified in another way (`xds.resources.token_headers`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from xds.protocol import resource_types
from xds.protocol.resource_types import POLICY, ROUTE, ResourceType
from xds.protocol.snapshot import Resources, ResourceSet, Snapshot, Variant

MAKE_BEFORE_BREAK: Final = tuple(each for each in resource_types.ALL if each.make_before_break)
"""Types whose resources are added before the other types change, and removed afterwards."""

DRAIN: Final = 1.0
"""Seconds before a cluster is removed, for requests that an old policy has sent to this cluster."""


@dataclass(frozen=True, slots=True)
class Step:
    """A snapshot to publish, and what to wait for before the next step.

    The step ends `pause` seconds after every node has accepted `types`. `in_force`: the new config
    is in force after this step.
    """

    name: str
    snapshot: Snapshot
    types: tuple[ResourceType, ...]
    pause: float = 0.0
    in_force: bool = False


def steps(current: Snapshot, new: Snapshot) -> list[Step]:
    """The steps from the current snapshot to the new one.

    Steps that change nothing are left out, except for the step that puts the new config in force.
    The last snapshot has the new resources. A type that does not change keeps its `version_info`.
    A variant takes part if a node has needed it.
    """
    default = _Phases.between(current, new)
    variants = {
        name: _Phases.between(variant.snapshot, new.of_variant(name))
        for name, variant in current.variants.items()
        if variant.is_built
    }

    def published(phase: Callable[[_Phases], Snapshot]) -> Snapshot:
        built = {name: Variant.built(phase(each)) for name, each in variants.items()}
        return replace(phase(default), variants={**new.variants, **built})

    every = (default, *variants.values())
    plan = []
    if any(each.makes for each in every):
        plan.append(Step("make", published(lambda each: each.made), MAKE_BEFORE_BREAK))
    if any(each.decides for each in every):
        plan.append(Step("decide", published(lambda each: each.decided), (POLICY,)))
    removes = any(each.removes for each in every)
    plan.append(
        Step(
            "switch",
            published(lambda each: each.switched),
            resource_types.ALL,
            pause=DRAIN if removes else 0.0,
            in_force=True,
        )
    )
    if removes:
        plan.append(Step("remove", published(lambda each: each.target), resource_types.ALL))
    return plan


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
        both = {each: _both(each, current, target) for each in MAKE_BEFORE_BREAK}
        made = current.with_types(both)
        decided = made.with_types({POLICY: target.types[POLICY]})
        return cls(current, made, decided, target.with_types(both), target)

    @property
    def makes(self) -> bool:
        return not self.made.has_same_resources(self.current)

    @property
    def decides(self) -> bool:
        """Whether the policy must come before the routes."""
        routes = self.target.types[ROUTE]
        return (
            self.made.types[ROUTE].published
            and routes.version != self.made.types[ROUTE].version
            and not self.decided.has_same_resources(self.made)
        )

    @property
    def removes(self) -> bool:
        return not self.target.has_same_resources(self.switched)


def _unchanged(current: Snapshot, new: Snapshot) -> Mapping[ResourceType, ResourceSet]:
    return {
        resource_type: old
        for resource_type, old in current.types.items()
        if old.published and old.version == new.types[resource_type].version
    }


def _both(resource_type: ResourceType, current: Snapshot, new: Snapshot) -> ResourceSet:
    """Old and new resources together. For a name that both have, the new resource.

    If the old or the new ones are all of them, they keep their `version_info`.
    """
    old, added = current.types[resource_type], new.types[resource_type]
    kept = _kept(resource_type, current, new)
    both = ResourceSet.of({**kept, **added.resources}, f"{new.version}-make")
    known = (each for each in (old, added) if each.published and each.version == both.version)
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
