"""The order of a rollout: a resource exists before anything refers to it, and until nothing does.

This is the make-before-break order of the xDS protocol ("Eventual consistency considerations").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import ResourceSet, Snapshot

MADE_FIRST: Final = tuple(each for each in resource_types.ALL if each.make_before_break)
"""Types whose resources are added before anything refers to them, and removed after that."""

DRAIN: Final = 1.0
"""Seconds that requests with an old decision get to reach their cluster before it is removed."""


@dataclass(frozen=True, slots=True)
class Step:
    """A snapshot to publish, and what to wait for before the next step.

    The step ends when every node has accepted `types`, and `pause` seconds after that. `in_force`:
    after this step, the new config decides about requests.
    """

    name: str
    snapshot: Snapshot
    types: tuple[ResourceType, ...]
    pause: float = 0.0
    in_force: bool = False


def steps(current: Snapshot, new: Snapshot) -> list[Step]:
    """The steps from the current snapshot to the new one.

    Steps that change nothing are left out, except for the step that puts the new config in force.
    The last snapshot has the new resources; a type that does not change keeps its version.
    """
    target = new.with_types(_unchanged(current, new))
    both = _both(current, target)
    made = current.with_types(both)
    switched = target.with_types(both)
    removes = not switched.has_resources_of(target)
    make = Step("make", made, MADE_FIRST, _warmup(current, new))
    switch = Step("switch", switched, resource_types.ALL, DRAIN if removes else 0.0, in_force=True)
    plan = [make] if not made.has_resources_of(current) else []
    plan.append(switch)
    if removes:
        plan.append(Step("remove", target, resource_types.ALL))
    return plan


def _unchanged(current: Snapshot, new: Snapshot) -> Mapping[ResourceType, ResourceSet]:
    return {
        resource_type: old
        for resource_type, old in current.types.items()
        if old.version == new.types[resource_type].version
    }


def _both(current: Snapshot, new: Snapshot) -> Mapping[ResourceType, ResourceSet]:
    """Old and new resources together. If both have a resource, the new one replaces the old one."""
    return {
        each: _union(current.types[each], new.types[each], f"{new.version}-make")
        for each in MADE_FIRST
    }


def _union(old: ResourceSet, new: ResourceSet, info: str) -> ResourceSet:
    union = ResourceSet.of({**old.resources, **new.resources}, info)
    return next((each for each in (old, new) if each.version == union.version), union)


def _warmup(current: Snapshot, new: Snapshot) -> float:
    """The longest time, in seconds, that a new cluster may take to become usable."""
    known = current.types[resource_types.CLUSTER].resources
    return max((wait for name, wait in new.warmup.items() if name not in known), default=0.0)
