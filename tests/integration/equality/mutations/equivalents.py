"""Mutations that no request can notice, each with the reason."""

from dataclasses import dataclass
from typing import Final

from xds.resources import token_headers


@dataclass(frozen=True, slots=True)
class Equivalent:
    """The mutations whose names contain all of these parts, and why their answers are right."""

    reason: str
    parts: tuple[str, ...]

    def fits(self, name: str) -> bool:
        """Whether this is one of them."""
        return all(part in name for part in self.parts)


_GROUPS: Final = token_headers.groups("group")
_CLAIM: Final = token_headers.claim("group")

_SAME_CLAIM: Final = (
    "the groups of this issuer are in the claim `group`, and the rule compares this claim too"
)

EQUIVALENTS: Final = (
    Equivalent("a cache changes no answer", ("> jwt_cache_config",)),
    Equivalent(
        "no native route admits a request with an API key, and the callout removes keys",
        ("removes x-api-key",),
    ),
    Equivalent(
        "the callout removes the token, for which the native routes of this model ask",
        ("x-sluice-model = q left out",),
    ),
    Equivalent(_SAME_CLAIM, (f" > case 0 > any 1: {_GROUPS} exact",)),
    Equivalent(_SAME_CLAIM, (f" > case 0 > any 4: all of ({_GROUPS} ",)),
    Equivalent(_SAME_CLAIM, (f"not: any 0: {_GROUPS} ",)),
    Equivalent(_SAME_CLAIM, ("https://one.test > claim_to_headers", _CLAIM)),
)
"""All such mutations of `every_rule`. The test fails if a request notices one of them."""
