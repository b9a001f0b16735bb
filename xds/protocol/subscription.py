"""Subscriptions: the resource names that a client has subscribed to, of one type on one stream."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resources

WILDCARD = "*"
"""The name that subscribes to every resource of a type."""

MAX_NAMES = 100_000
"""Maximum resource names in one request: 10,000 models with ten versions each."""


class OverLimitError(Exception):
    """A client exceeds a limit. The server ends the stream."""


@dataclass(slots=True)
class Subscription:
    """The names that a client has subscribed to, and whether it has subscribed to all resources.

    An empty list of names subscribes to every resource of a wildcard type, but only until the
    client sends a name. After that, an empty list unsubscribes from every resource ("How the client
    specifies what resources to return" in the xDS protocol).
    """

    type: ResourceType
    names: frozenset[str] = frozenset()
    wildcard: bool = False
    _named: bool = False

    @property
    def empty(self) -> bool:
        """Whether the client has subscribed to nothing."""
        return not self.wildcard and not self.names

    def includes_all(self, names: Iterable[str]) -> bool:
        """Whether the client has subscribed to each of these resources."""
        return self.wildcard or self.names.issuperset(names)

    def select(self, resources: Resources) -> Resources:
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
        self.names = frozenset(names) - {WILDCARD}
        self.wildcard = WILDCARD in names or (self.type.wildcard and not self._named)
        if wildcard_before:
            return False
        return self.wildcard or not self.names <= before
