"""The identity of a caller."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sluice.config.claim_values import claim_values


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller. `source` is the token's issuer, or `api_key`.

    `expires`: when the credentials expire, in seconds since the epoch.
    """

    subject: str
    source: str
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict)
    anonymous: bool = False
    expires: float = math.inf

    _values: dict[str, frozenset[str]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Values of claims by name. The config has all names, so they are few."""

    def claim_values(self, name: str) -> frozenset[str]:
        """The values of a claim as text (`sluice.config.claim_values`). Empty if it is missing."""
        values = self._values.get(name)
        if values is None:
            values = self._values[name] = claim_values(self.claims, name)
        return values


ANONYMOUS = Identity("", "anonymous", anonymous=True)
"""A caller without credentials."""
