"""Subscriptions: the resource names that a client has subscribed to, of one type on one stream."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from xds.protocol.resource_types import ResourceType
from xds.protocol.shared_names import SHARED, OverLimitError, SharedNames

Value = TypeVar("Value")

WILDCARD = "*"
"""The name that subscribes to every resource of a type."""

MAX_NAMES = 100_000
"""Maximum resource names in one request: 10,000 models with ten versions each."""

MAX_NAME = 512
"""Maximum characters of a name in an incremental subscription. A stream collects names from many
requests, so the size of a request does not bound them. Names of clusters have at most 127."""


@dataclass(slots=True)
class Subscription:
    """The names that a client has subscribed to, and whether it has subscribed to all resources.

    An empty list of names subscribes to every resource of a wildcard type, but only until the
    client sends a name. After that, an empty list unsubscribes from every resource ("How the client
    specifies what resources to return" in the xDS protocol).

    `shared` bounds the memory of the names.
    """

    type: ResourceType
    names: frozenset[str] = frozenset()
    wildcard: bool = False
    _named: bool = False
    shared: SharedNames = field(default=SHARED, repr=False, compare=False)

    @property
    def empty(self) -> bool:
        """Whether the client has subscribed to nothing."""
        return not self.wildcard and not self.names

    def includes_all(self, names: Iterable[str]) -> bool:
        """Whether the client has subscribed to each of these resources."""
        return self.wildcard or names is self.names or self.names.issuperset(names)

    def includes(self, name: str) -> bool:
        """Whether the client has subscribed to this resource."""
        return self.wildcard or name in self.names

    def select(self, resources: Mapping[str, Value]) -> Mapping[str, Value]:
        """The resources to which the client has subscribed: the argument itself if to all."""
        if self.includes_all(resources):
            return resources
        return {name: each for name, each in resources.items() if name in self.names}

    def replace(self, names: Sequence[str]) -> bool:
        """Replace the names. Returns whether the client subscribes to more than before.

        Raises OverLimitError for too many names.
        """
        if len(names) > MAX_NAMES:
            raise OverLimitError(f"more than {MAX_NAMES} resource names in one request")
        before, wildcard_before = self.names, self.wildcard
        self._named = self._named or bool(names)
        self.names = self.shared.of_client(frozenset(names) - {WILDCARD})
        self.wildcard = WILDCARD in names or (self.type.wildcard and not self._named)
        if wildcard_before:
            return False
        return self.wildcard or not self.names <= before

    def begin(self, subscribe: Sequence[str], unsubscribe: Sequence[str]) -> None:
        """Process the names of the first incremental request of this type on a stream.

        Raises OverLimitError for too many or too long names.
        """
        if self.type.wildcard and not subscribe:
            self.wildcard = True
        self.change(subscribe, unsubscribe)

    def change(self, subscribe: Sequence[str], unsubscribe: Sequence[str]) -> set[str]:
        """Add and remove names. Returns the names of which the client must be told the state.

        These are all names that it subscribes to, also again: it may have dropped the resources. A
        name that it unsubscribes from may still be part of its wildcard. `*` is returned if it
        subscribes to all resources.

        Raises OverLimitError for too many or too long names.
        """
        if any(len(name) > MAX_NAME for name in subscribe):
            raise OverLimitError(f"a resource name of more than {MAX_NAME} characters")
        told = set(subscribe)
        removed = self.names.intersection(unsubscribe)
        if told or removed:
            names = (self.names | told).difference(unsubscribe, (WILDCARD,))
            if len(names) > MAX_NAMES:
                raise OverLimitError(f"more than {MAX_NAMES} resource names on one stream")
            self.names = self.shared.of_client(names)
        if WILDCARD in told:
            self.wildcard = True
        if WILDCARD in unsubscribe:
            self.wildcard = False
            told.discard(WILDCARD)
        told.difference_update(unsubscribe)
        return told | removed if self.wildcard else told
