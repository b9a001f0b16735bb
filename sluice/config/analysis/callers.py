"""What the credentials of a config can give to a caller: subjects, groups and claims."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sluice.config.auth import Auth
from sluice.config.claims import SPACE_SEPARATED, claim_paths


class Values:
    """The values that a property can have. A config may have as many rules as values."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = frozenset(values)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def has_any(self, values: Iterable[str]) -> bool:
        """Whether one of the values is possible."""
        return not self._values.isdisjoint(values)

    def match(self, how: str, wanted: str) -> bool:
        """Whether a possible value matches: it is equal (`exact`), or has the prefix."""
        if how == "exact":
            return wanted in self._values
        position = bisect_left(self._sorted, wanted)
        return position < len(self._sorted) and self._sorted[position].startswith(wanted)


@dataclass(frozen=True, slots=True)
class Callers:
    """The callers that can exist. A token of an issuer may have every subject, group and claim."""

    tokens: bool
    subjects: Values
    groups: Values
    claims: Mapping[str, Values]

    @classmethod
    def of(cls, auth: Auth) -> "Callers":
        """The callers with the issuers and the API keys of a config."""
        keys = auth.api_keys
        claims: dict[str, set[str]] = defaultdict(set)
        for key in keys:
            for name, value in key.claims.items():
                claims[name].update(value.split(" ") if is_split(name) else (value,))
        return cls(
            bool(auth.issuers),
            Values(key.name for key in keys),
            Values(group for key in keys for group in key.groups),
            {name: Values(values) for name, values in claims.items()},
        )

    def may_have_group(self, groups: Iterable[str]) -> bool:
        """Whether a caller can be in one of the groups."""
        return self.tokens or self.groups.has_any(groups)

    def may_have_subject(self, subjects: Iterable[str]) -> bool:
        """Whether a caller can be one of the subjects."""
        return self.tokens or self.subjects.has_any(subjects)

    def may_have_claim(self, name: str, value: str, how: str = "exact") -> bool:
        """Whether a claim of a caller can match the value."""
        if is_split(name) and " " in value:
            return False
        # The claims of an API key are not nested.
        members = (path[0] for path in claim_paths(name) if len(path) == 1)
        return self.tokens or any(self.claims.get(m, _NONE).match(how, value) for m in members)


_NONE = Values()


def is_split(name: str) -> bool:
    """Whether the text of a claim is a list of values, so that no value contains a space."""
    return SPACE_SEPARATED.issuperset(claim_paths(name))
