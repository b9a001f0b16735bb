"""Snapshots: all resources that the control plane serves at one moment, with their versions.

Versions are hashes of content, so a change of one endpoint sends endpoints and nothing else.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType

VERSION_LENGTH = 16
"""Hex digits of a version: 64 bits, enough to tell every version of a gateway from the others."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One serialized resource. `version` is a hash of its content."""

    body: bytes
    version: str

    @classmethod
    def of(cls, body: bytes) -> Self:
        """The resource with this content."""
        return cls(body, hashlib.sha256(body).hexdigest()[:VERSION_LENGTH])


Resources = Mapping[str, Resource]
"""Resources of one type, by name."""


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type. `version` is a hash of their names and versions."""

    resources: Resources
    version: str

    @classmethod
    def of(cls, resources: Resources) -> Self:
        """The set of these resources."""
        digest = hashlib.sha256()
        for name in sorted(resources):
            encoded = name.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
            digest.update(resources[name].version.encode())
        return cls(resources, digest.hexdigest()[:VERSION_LENGTH])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The resources of every type, and the version of the whole.

    `warmup` gives, for each cluster that Envoy cannot use as soon as it has accepted it, the
    longest time that it takes, in seconds.
    """

    types: Mapping[ResourceType, ResourceSet]
    version: str
    warmup: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        resources: Mapping[ResourceType, Resources],
        warmup: Mapping[str, float] | None = None,
    ) -> Self:
        """The snapshot with these resources. A type that is missing has no resources."""
        types = {each: ResourceSet.of(resources.get(each, {})) for each in resource_types.ALL}
        return cls(types, _version(types), warmup or {})

    def with_types(self, types: Mapping[ResourceType, ResourceSet]) -> Self:
        """This snapshot with other resources of the given types."""
        replaced = {**self.types, **types}
        return type(self)(replaced, _version(replaced), self.warmup)


def _version(types: Mapping[ResourceType, ResourceSet]) -> str:
    versions = "".join(each.version for each in types.values())
    return hashlib.sha256(versions.encode()).hexdigest()[:VERSION_LENGTH]


EMPTY = Snapshot.of({})
