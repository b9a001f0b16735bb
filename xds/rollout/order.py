"""The order of a change: nothing is referred to before it exists, or after it is gone.

Make before break, as in the xDS protocol's "eventual consistency considerations".
"""

from dataclasses import dataclass
from typing import Final

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Snapshot

REFERRED: Final = tuple(each for each in resource_types.ALL if each.make_before_break)
"""What routes and decisions name."""

DRAIN: Final = 1.0
"""Seconds for decisions already made to reach their cluster before it is removed."""


@dataclass(frozen=True, slots=True)
class Step:
    """A view to show to every node, and what to wait for once they accepted it.

    `types` are those whose acceptance is awaited; `pause` is a wait in seconds after that. With
    `in_force`, requests are treated by the new config from here on.
    """

    name: str
    view: Snapshot
    types: tuple[ResourceType, ...]
    pause: float = 0.0
    in_force: bool = False


def steps(current: Snapshot, new: Snapshot) -> list[Step]:
    """The views that lead from the current one to the new one; those that change nothing fall away.

    The step that puts the new config in force is always there.
    """
    both = {each: {**current.resources[each], **new.resources[each]} for each in REFERRED}
    made = current.replaced(both)
    switched = new.replaced(both)
    removes = switched.version != new.version
    make = Step("make", made, REFERRED, _warmup(current, new))
    switch = Step("switch", switched, resource_types.ALL, DRAIN if removes else 0.0, in_force=True)
    plan = [make] if made.version != current.version else []
    plan.append(switch)
    if removes:
        plan.append(Step("remove", new, resource_types.ALL))
    return plan


def _warmup(current: Snapshot, new: Snapshot) -> float:
    """How long clusters that did not exist before may take to become usable."""
    known = current.resources[resource_types.CLUSTER]
    return max((wait for name, wait in new.warmup.items() if name not in known), default=0.0)
