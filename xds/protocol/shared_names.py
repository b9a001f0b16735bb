"""Shares sets of resource names between streams, and bounds the memory of all of them.

Most clients subscribe to the same names, so that all of them together take the memory of one.
"""

import sys
from collections.abc import Mapping
from typing import Final
from weakref import WeakValueDictionary, finalize

MAX_BYTES: Final = 256 << 20
"""Bytes of all names of clients, as they are in memory. Equal sets count once, and those that a
snapshot has do not count."""

MAX_SET_BYTES: Final = 32 << 20
"""Bytes of one set: 100,000 names of at most 127 characters, as they are in memory."""

SMALL: Final = 2 << 10
"""Bytes of a set that is taken even if the names of others have all of the memory: about ten names,
as workers and the services of single types have."""

_NONE: Final[frozenset[str]] = frozenset()


class OverLimitError(Exception):
    """A client exceeds a limit. The server ends the stream."""


class Versions(dict[str, str]):
    """The resources that a client has from an earlier stream: the version of each by name."""

    __slots__ = ("__weakref__",)


class SharedNames:
    """Sets of names that are in use. A set that nobody uses any more takes no memory."""

    def __init__(
        self,
        maximum: int = MAX_BYTES,
        maximum_of_set: int = MAX_SET_BYTES,
        small: int = SMALL,
    ) -> None:
        self._maximum, self._maximum_of_set, self._small = maximum, maximum_of_set, small
        self._sets: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()
        self._versions: WeakValueDictionary[int, Versions] = WeakValueDictionary()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes of all names of clients."""
        return self._bytes

    def of_snapshot(self, names: frozenset[str]) -> frozenset[str]:
        """The set that others have, if it is equal. These names count for no client."""
        known = self._known(names)
        return self._add(names) if known is None else known

    def of_client(self, names: frozenset[str]) -> frozenset[str]:
        """The set that others have, if it is equal. Raises OverLimitError."""
        known = self._known(names) if names else _NONE
        if known is not None:
            return known
        self._count(names, sum(map(sys.getsizeof, names)) + sys.getsizeof(names))
        return self._add(names)

    def versions(self, versions: Mapping[str, str]) -> Versions:
        """The versions that others have, if they are equal, or a copy. Raises OverLimitError.

        When a control plane starts again, all Envoys connect with the same versions.
        """
        key = hash(frozenset(versions.items()))
        known = self._versions.get(key)
        if known == versions:
            return known
        copy = Versions(versions)
        if copy:
            parts = sum(map(sys.getsizeof, copy)) + sum(map(sys.getsizeof, copy.values()))
            self._count(copy, parts + sys.getsizeof(copy))
            self._versions[key] = copy
        return copy

    def _known(self, names: frozenset[str]) -> frozenset[str] | None:
        known = self._sets.get(hash(names))
        return known if known == names else None

    def _add(self, names: frozenset[str]) -> frozenset[str]:
        self._sets[hash(names)] = names
        return names

    def _count(self, owner: object, size: int) -> None:
        """Count bytes as long as their owner exists."""
        if size > self._maximum_of_set:
            raise OverLimitError(f"resource names of more than {self._maximum_of_set} bytes")
        if size > self._small and self._bytes + size > self._maximum:
            raise OverLimitError(f"the names of all clients have more than {self._maximum} bytes")
        self._bytes += size
        finalize(owner, self._release, size).atexit = False

    def _release(self, size: int) -> None:
        self._bytes -= size


SHARED: Final = SharedNames()
"""The names of all streams and snapshots."""
