"""The identity of a caller."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


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

    def claim_values(self, name: str) -> tuple[str, ...]:
        """A claim's values as text. Empty if the claim is missing, or has a value of another type.

        Text, booleans and integers have one value. A list has the values of its text items.
        """
        value = self.claims.get(name)
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list):
            return tuple(item for item in value if isinstance(item, str))
        if isinstance(value, bool):
            return ("true",) if value else ("false",)
        return (str(value),) if isinstance(value, int) else ()


ANONYMOUS = Identity("", "anonymous", anonymous=True)
"""A caller without credentials."""
