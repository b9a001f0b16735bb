"""Snapshots: all resources that the control plane serves at one moment, with their versions."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.wire import Parts


@dataclass(frozen=True, slots=True)
class Resource:
    """One serialized resource. `version` is a hash of its content.

    `parts`: the content. Two resources may share parts, such as the routes of a model.

    `ttl`: seconds after which a client drops the resource, unless it is sent again. None: never.
    """

    parts: Parts = field(compare=False)
    version: bytes
    ttl: float | None = None

    @classmethod
    def of(cls, *parts: bytes, ttl: float | None = None) -> Self:
        """The resource with this content."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        if ttl is not None:
            digest.update(f"ttl {ttl}".encode())
        return cls(parts, digest.digest(), ttl)

    @property
    def body(self) -> bytes:
        """The content as a whole."""
        return b"".join(self.parts)


Resources = Mapping[str, Resource]
"""Resources of one type, by name."""


@dataclass(frozen=True, slots=True)
class TypeVersion:
    """The version of all resources of one type.

    Two versions are equal if their resources are equal. So unchanged resources are not sent again.
    `info` is the `version_info` on the wire: the version of the config that last changed the
    resources.
    """

    digest: bytes
    info: str = field(compare=False)

    def __str__(self) -> str:
        return self.info


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type."""

    resources: Resources
    version: TypeVersion

    @property
    def published(self) -> bool:
        """Whether a config has set these resources, if only to none.

        Before, a client gets no response: an empty one would remove the resources that the client
        has from an earlier control plane.
        """
        return bool(self.version.info)

    @classmethod
    def of(cls, resources: Resources, info: str) -> Self:
        """The set of these resources; `info` as in TypeVersion."""
        names = sorted(resources)
        digest = hashlib.sha256(json.dumps(names).encode())
        digest.update(b"".join([resources[name].version for name in names]))
        return cls(resources, TypeVersion(digest.digest(), info))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The resources of every type.

    `version` is the version of the config that is in force after nodes have accepted the snapshot;
    None without a config. `variants` are snapshots for nodes that must get other resources, by the
    name of their variant.
    """

    types: Mapping[ResourceType, ResourceSet]
    version: str | None
    variants: "Mapping[str, Variant]" = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        resources: Mapping[ResourceType, Resources],
        version: str | None,
        variants: "Mapping[str, Variant] | None" = None,
    ) -> Self:
        """The snapshot with these resources. A type that is missing has no resources."""
        types = {
            each: ResourceSet.of(resources.get(each, {}), version or "")
            for each in resource_types.ALL
        }
        return cls(types, version, variants or {})

    def of_variant(self, name: str) -> "Snapshot":
        """The snapshot for nodes of this variant: this one, if it has none for them."""
        variant = self.variants.get(name)
        return self if variant is None else variant.snapshot

    def with_types(self, types: Mapping[ResourceType, ResourceSet]) -> Self:
        """This snapshot with other resources of the given types, without variants."""
        return type(self)({**self.types, **types}, self.version)

    def has_same_resources(self, other: Self) -> bool:
        """Whether both snapshots have the same resources."""
        return all(self.types[each].version == other.types[each].version for each in self.types)


class Variant:
    """The snapshot for the nodes of a variant. It is built when the first node needs it."""

    def __init__(self, build: Callable[[], Snapshot]) -> None:
        self._build: Callable[[], Snapshot] | None = build
        self._snapshot = EMPTY

    @classmethod
    def built(cls, snapshot: Snapshot) -> Self:
        """A variant whose snapshot is known."""
        variant = cls(lambda: snapshot)
        assert variant.snapshot is snapshot
        return variant

    @property
    def is_built(self) -> bool:
        """Whether a node has needed the snapshot."""
        return self._build is None

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot."""
        if self._build is not None:
            self._snapshot, self._build = self._build(), None
        return self._snapshot


EMPTY = Snapshot.of({}, version=None)
