"""Plans the steps of a rollout: make before break.

Resources are added before other resources refer to them, and removed after the references (see
"Eventual consistency considerations" in the xDS protocol).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resources, ResourceSet, Snapshot

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
    """
    target = new.with_types(_unchanged(current, new))
    both = _both(current, target)
    made = current.with_types(both)
    switched = target.with_types(both)
    removes = not switched.has_same_resources(target)
    make = Step("make", made, MAKE_BEFORE_BREAK)
    switch = Step("switch", switched, resource_types.ALL, DRAIN if removes else 0.0, in_force=True)
    plan = [make] if not made.has_same_resources(current) else []
    plan.append(switch)
    if removes:
        plan.append(Step("remove", target, resource_types.ALL))
    return plan


def _unchanged(current: Snapshot, new: Snapshot) -> Mapping[ResourceType, ResourceSet]:
    return {
        resource_type: old
        for resource_type, old in current.types.items()
        if old.published and old.version == new.types[resource_type].version
    }


def _both(current: Snapshot, new: Snapshot) -> Mapping[ResourceType, ResourceSet]:
    """Old and new resources together. For a name that both have, the new resource."""
    return {
        each: _union(
            current.types[each], _kept(each, current, new), new.types[each], f"{new.version}-make"
        )
        for each in MAKE_BEFORE_BREAK
    }


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


def _union(old: ResourceSet, kept: Resources, new: ResourceSet, info: str) -> ResourceSet:
    union = ResourceSet.of({**kept, **new.resources}, info)
    same = (each for each in (old, new) if each.published and each.version == union.version)
    return next(same, union)
