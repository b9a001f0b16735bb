"""Snapshots: all resources that the control plane serves at one moment, with their versions."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeAlias, TypeVar

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.shared_names import SHARED
from xds.protocol.subscription import Subscription
from xds.protocol.wire import Parts, hashed

Key = TypeVar("Key")


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
        marks = () if ttl is None else (f"ttl {ttl}".encode(),)
        return cls(parts, hashed((*parts, *marks)), ttl)

    @property
    def body(self) -> bytes:
        """The content as a whole."""
        return b"".join(self.parts)

    @property
    def version_text(self) -> str:
        """The version on the wire: the first 64 bits."""
        return self.version[:8].hex()


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


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Changes:
    """Resources of one type that a client must get, and the names of those that it must remove.

    Clients with the same subscription share one object, so that it is serialized once.
    """

    resources: Resources = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.resources or self.removed)

    def __or__(self, other: "Changes") -> "Changes":
        """Both. Neither removes a resource of the other one."""
        removed = dict.fromkeys((*self.removed, *other.removed))
        return Changes({**self.resources, **other.resources}, tuple(removed))

    def select(self, subscription: Subscription) -> "Changes":
        """The changes to which a client has subscribed: this object if to all."""
        if subscription.includes_all(self.resources) and subscription.includes_all(self.removed):
            return self
        return Changes(
            subscription.select(self.resources),
            tuple(name for name in self.removed if subscription.includes(name)),
        )


NO_CHANGES = Changes()

MAX_KEPT = 16
"""Changes that a set keeps. Most clients have the set before it and request the same names. Each
client that does not respond may need others."""

MAX_KEPT_ABSENT = 100
"""Names without a resource in changes that a set keeps. Only a hostile client has many."""


class _Derived:
    """What is computed from a set when a client first needs it."""

    __slots__ = ("changes", "everything", "expiring", "named", "names")

    def __init__(self) -> None:
        self.names: frozenset[str] | None = None
        self.everything: Changes | None = None
        self.expiring: Resources | None = None
        self.changes: dict[bytes, Changes] = {}
        self.named: dict[frozenset[str], Changes] = {}


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type."""

    resources: Resources
    version: TypeVersion
    _derived: _Derived = field(default_factory=_Derived, init=False, repr=False, compare=False)

    @property
    def names(self) -> frozenset[str]:
        """The names of the resources."""
        if self._derived.names is None:
            self._derived.names = SHARED.of_snapshot(frozenset(self.resources))
        return self._derived.names

    @property
    def everything(self) -> Changes:
        """All resources, for a client that has none."""
        if self._derived.everything is None:
            self._derived.everything = Changes(self.resources)
        return self._derived.everything

    @property
    def expiring(self) -> Resources:
        """The resources with a TTL."""
        if self._derived.expiring is None:
            self._derived.expiring = {
                name: each for name, each in self.resources.items() if each.ttl is not None
            }
        return self._derived.expiring

    def changes_since(self, older: "ResourceSet") -> Changes:
        """What a client needs that has the resources of an older set. Computed once."""
        if older.version == self.version:
            return NO_CHANGES
        changes = self._derived.changes.get(older.version.digest)
        if changes is None:
            changes = self._compare(older.resources)
            _keep(self._derived.changes, older.version.digest, changes)
        return changes

    def named(self, names: frozenset[str]) -> Changes:
        """The resources with these names, and those of the names that have none."""
        changes = self._derived.named.get(names)
        if changes is None:
            found = {name: self.resources[name] for name in names if name in self.resources}
            changes = Changes(found, tuple(names.difference(found)))
            if len(changes.removed) <= MAX_KEPT_ABSENT:
                _keep(self._derived.named, names, changes)
        return changes

    def _compare(self, older: Resources) -> Changes:
        changed = {
            name: resource
            for name, resource in self.resources.items()
            if (before := older.get(name)) is not resource
            and (before is None or before.version != resource.version)
        }
        return Changes(changed, tuple(name for name in older if name not in self.resources))

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


def _keep(known: dict[Key, Changes], key: Key, changes: Changes) -> None:
    if len(known) == MAX_KEPT:
        del known[next(iter(known))]
    known[key] = changes


class NodeIdentity(Protocol):
    """What a node says of itself, and what a variant may depend on.

    `locality` is `REGION/ZONE/SUB_ZONE`, without the parts that the node does not say. `variant` is
    the variant that the node has; None for a node that connects now.
    """

    @property
    def variant(self) -> str | None: ...

    @property
    def id(self) -> str: ...
    @property
    def cluster(self) -> str: ...
    @property
    def locality(self) -> str: ...
    @property
    def agent(self) -> str: ...
    @property
    def build_version(self) -> tuple[int, int, int] | None: ...
    @property
    def metadata(self) -> Mapping[str, str | float]: ...


VariantOf: TypeAlias = Callable[[NodeIdentity], str]
"""Chooses the variant of a node. Two that choose alike should be equal: then no node moves."""


def default_variant(_: NodeIdentity) -> str:
    """Every node gets the resources of the snapshot itself."""
    return ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The resources of every type.

    `version` is the version of the config that is in force after nodes have accepted the snapshot;
    None without a config. `variants` are snapshots for nodes that must get other resources, by the
    name of their variant. `variant_of` chooses the variant of a node.
    """

    types: Mapping[ResourceType, ResourceSet]
    version: str | None
    variants: "Mapping[str, Variant]" = field(default_factory=dict, compare=False)
    variant_of: VariantOf = field(default=default_variant, compare=False)

    @classmethod
    def of(
        cls,
        resources: Mapping[ResourceType, Resources],
        version: str | None,
        variants: "Mapping[str, Variant] | None" = None,
        variant_of: VariantOf = default_variant,
    ) -> Self:
        """The snapshot with these resources. A type that is missing has no resources."""
        types = {
            each: ResourceSet.of(resources.get(each, {}), version or "")
            for each in resource_types.ALL
        }
        return cls(types, version, variants or {}, variant_of)

    def of_variant(self, name: str | None) -> "Snapshot":
        """The snapshot for nodes of this variant: this one, if it has none for them."""
        variant = self.variants.get(name or "")
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
