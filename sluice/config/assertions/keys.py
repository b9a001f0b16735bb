"""The callers with API keys. Keys that no rule distinguishes are looked at once."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sluice.config.assertions.callers import Caller
from sluice.config.auth import ApiKey
from sluice.config.buckets import bucket_of
from sluice.config.models import BUCKETS


@dataclass(frozen=True, slots=True)
class Buckets:
    """Users whose bucket is from `start` to below `end`, and perhaps those without a bucket."""

    hash: str
    start: int
    end: int
    or_none: bool = False

    def has(self, identifier: str) -> bool:
        """Whether the user is one of them."""
        bucket = bucket_of(identifier.encode(), self.hash) if identifier else None
        return self.or_none if bucket is None else self.start <= bucket < self.end


@dataclass(slots=True)
class KeyGroup:
    """API keys with the same groups and claims. `caller` is that of one of them."""

    caller: Caller
    names: list[str] = field(default_factory=list)
    _sorted: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def caller_in(self, buckets: Buckets | None) -> Caller | None:
        """A caller in the buckets (None: in any); None if there is none."""
        if buckets is None:
            return self.caller
        known = self._by_bucket(buckets.hash)
        position = bisect_left(known, (buckets.start, ""))
        if position < len(known) and known[position][0] < buckets.end:
            return self._named(known[position][1])
        if buckets.or_none and known and known[-1][0] == BUCKETS[buckets.hash]:
            return self._named(known[-1][1])
        return None

    def _named(self, name: str) -> Caller:
        return replace(self.caller, subject=name, key=name)

    def _by_bucket(self, hash_name: str) -> list[tuple[int, str]]:
        """The names with their buckets; those without one come last."""
        if hash_name not in self._sorted:
            none = BUCKETS[hash_name]
            buckets = ((bucket_of(name.encode(), hash_name), name) for name in self.names)
            self._sorted[hash_name] = sorted(
                (none if bucket is None else bucket, name) for bucket, name in buckets
            )
        return self._sorted[hash_name]


def key_groups(keys: Iterable[ApiKey], subjects: frozenset[str]) -> list[KeyGroup]:
    """The groups of API keys. A key whose name is in `subjects` is a group of its own."""
    found: dict[object, KeyGroup] = {}
    for key in keys:
        alike = (frozenset(key.groups), frozenset(key.claims.items()))
        identity = key.name if key.name in subjects else alike
        group = found.setdefault(identity, KeyGroup(Caller.of_key(key)))
        group.names.append(key.name)
    return list(found.values())
