"""Plans the steps of a rollout: make before break, restrict before admit, policy before routes.

Resources are added before other resources refer to them, and removed after the references (see
"Eventual consistency considerations" in the xDS protocol).

An Envoy that admits a request alone reads two resources: the filter that verifies tokens, and the
routes. Neither order of the two is safe: a token whose key the new config adds could take an old
route that the new config closes, and a token whose key the new config revokes could take a new
route. So while the routes change, the filter accepts only what both configs accept
(`extensions.narrowed`), and the callout decides about all other tokens.

Envoy may load a large table of routes for long, and the old native routes of a changed model are
off as soon as the workers have the new policy. So the policy comes first: the callout decides as
the new config says about all requests for that model until Envoy has the new routes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sluice.contract.names import JWT_FILTER
from xds.protocol import resource_types
from xds.protocol.resource_types import EXTENSION, POLICY, ROUTE, ResourceType
from xds.protocol.snapshot import Resource, Resources, ResourceSet, Snapshot, Variant
from xds.resources.extensions import narrowed

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


@dataclass(frozen=True, slots=True)
class _Phases:
    """The snapshots from the current one to the new one (`target`), for nodes of one variant."""

    current: Snapshot
    made: Snapshot
    decided: Snapshot
    switched: Snapshot
    admitted: Snapshot
    target: Snapshot

    @property
    def makes(self) -> bool:
        return not self.made.has_same_resources(self.current)

    @property
    def decides(self) -> bool:
        """Whether the policy must come before the routes."""
        routes = self.switched.types[ROUTE]
        return (
            self.made.types[ROUTE].published
            and routes.version != self.made.types[ROUTE].version
            and not self.decided.has_same_resources(self.made)
        )

    @property
    def admits(self) -> bool:
        return not self.admitted.has_same_resources(self.switched)

    @property
    def removes(self) -> bool:
        return not self.target.has_same_resources(self.admitted)


def steps(current: Snapshot, new: Snapshot, *, settled: bool = True) -> list[Step]:
    """The steps from the current snapshot to the new one.

    Steps that change nothing are left out, except for the step that puts the new config in force.
    The last snapshot has the new resources. A type that does not change keeps its `version_info`.
    A variant takes part if a node has needed it. `settled`: every node has accepted the current
    routes, so none may still use those before.
    """
    phases = _phases(current, new, settled)
    variants = {
        name: _phases(variant.snapshot, new.of_variant(name), settled)
        for name, variant in current.variants.items()
        if variant.is_built
    }

    def published(phase: Callable[[_Phases], Snapshot]) -> Snapshot:
        built = {name: Variant.built(phase(each)) for name, each in variants.items()}
        return replace(phase(phases), variants={**new.variants, **built})

    every = (phases, *variants.values())
    plan = []
    if any(each.makes for each in every):
        made = published(lambda each: each.made)
        plan.append(Step("make", made, (*MAKE_BEFORE_BREAK, EXTENSION)))
    if any(each.decides for each in every):
        plan.append(Step("decide", published(lambda each: each.decided), (POLICY,)))
    switched = published(lambda each: each.switched)
    plan.append(Step("switch", switched, resource_types.ALL, in_force=True))
    if any(each.admits for each in every):
        plan.append(Step("admit", published(lambda each: each.admitted), (EXTENSION,)))
    if any(each.removes for each in every):
        plan[-1] = replace(plan[-1], pause=DRAIN)
        plan.append(Step("remove", published(lambda each: each.target), resource_types.ALL))
    return plan


def narrow_first(current: Snapshot, target: Snapshot) -> Snapshot | None:
    """What to publish before the target if nodes may have any routes of a failed rollout.

    None if their filters cannot be too wide for the target.
    """
    pairs = {"": (current, target)} | {
        name: (current.of_variant(name), variant.snapshot)
        for name, variant in target.variants.items()
        if variant.is_built
    }
    if not any(_narrows(*pair, settled=False) for pair in pairs.values()):
        return None
    narrow = {
        name: new.with_types({EXTENSION: _with_filter(new, _narrow(old, new), new)})
        if _narrows(old, new, settled=False)
        else new
        for name, (old, new) in pairs.items()
    }
    default = narrow.pop("")
    built = {name: Variant.built(snapshot) for name, snapshot in narrow.items()}
    return replace(default, variants={**target.variants, **built})


def _phases(current: Snapshot, new: Snapshot, settled: bool) -> _Phases:
    target = new.with_types(_unchanged(current, new))
    both = _both(current, target)
    made, admitted = current.with_types(both), target.with_types(both)
    switched = admitted
    if _narrows(current, target, settled):
        narrow = _narrow(current, target)
        made = made.with_types({EXTENSION: _with_filter(current, narrow, target)})
        switched = switched.with_types({EXTENSION: _with_filter(target, narrow, target)})
    decided = made.with_types({POLICY: target.types[POLICY]})
    return _Phases(current, made, decided, switched, admitted, target)


def _narrows(current: Snapshot, target: Snapshot, settled: bool) -> bool:
    """Whether the filter must accept no more than both filters do while the routes change.

    Without a current filter, no token is verified, so the new one may come with the new routes.
    """
    old, new = _filter(current), _filter(target)
    if old is None or new is None or old.version == new.version:
        return False
    return not settled or current.types[ROUTE].version != target.types[ROUTE].version


def _narrow(current: Snapshot, target: Snapshot) -> Resource:
    """The filter that accepts only what those of both snapshots accept."""
    old, new = _filter(current), _filter(target)
    assert old is not None
    assert new is not None
    return narrowed(old, new)


def _filter(snapshot: Snapshot) -> Resource | None:
    return snapshot.types[EXTENSION].resources.get(JWT_FILTER)


def _with_filter(snapshot: Snapshot, jwt_filter: Resource, target: Snapshot) -> ResourceSet:
    """The extensions of a snapshot, with another filter for tokens."""
    old = snapshot.types[EXTENSION]
    resources = {**old.resources, JWT_FILTER: jwt_filter}
    return _same_or(ResourceSet.of(resources, _intermediate(target)), old, target.types[EXTENSION])


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
            current.types[each], _kept(each, current, new), new.types[each], _intermediate(new)
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
    return _same_or(ResourceSet.of({**kept, **new.resources}, info), old, new)


def _intermediate(new: Snapshot) -> str:
    """The `version_info` of resources that belong to neither config."""
    return f"{new.version}-make"


def _same_or(found: ResourceSet, *known: ResourceSet) -> ResourceSet:
    """The known set with the same resources, which keeps its `version_info`; or the found set."""
    same = (each for each in known if each.published and each.version == found.version)
    return next(same, found)
