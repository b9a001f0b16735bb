"""What there is to say: snapshots of every resource, versioned by content.

A type's version is a hash of its resources, so an edit of one endpoint re-sends endpoints alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType

Resources = Mapping[str, bytes]
"""Serialized resources by name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every resource at one moment. Built by `Snapshot.of`, which computes the versions.

    `warmup` names clusters that take requests only some seconds after they were accepted
    (health-checked ones and those found by DNS), with the seconds at most.
    """

    resources: Mapping[ResourceType, Resources]
    versions: Mapping[ResourceType, str]
    version: str
    warmup: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        resources: Mapping[ResourceType, Resources],
        warmup: Mapping[str, float] | None = None,
    ) -> Self:
        """A snapshot with these resources; types that are missing have none."""
        complete = {each: resources.get(each, {}) for each in resource_types.ALL}
        versions = {each: _digest(by_name) for each, by_name in complete.items()}
        overall = hashlib.sha256("".join(versions.values()).encode()).hexdigest()[:16]
        return cls(complete, versions, overall, warmup or {})

    def replaced(self, resources: Mapping[ResourceType, Resources]) -> Self:
        """This snapshot with the given types in place of its own."""
        return type(self).of({**self.resources, **resources}, self.warmup)


def _digest(resources: Resources) -> str:
    digest = hashlib.sha256()
    for name in sorted(resources):
        for part in (name.encode(), resources[name]):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


EMPTY = Snapshot.of({})
