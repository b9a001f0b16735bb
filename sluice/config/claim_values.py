"""Values of claims as text, for every rule that compares them: access, versions, groups, limits."""

import math
from collections.abc import Iterable, Mapping

from sluice.config.claims import SPACE_SEPARATED, ClaimPath, claim_paths

_MAX_EXACT = 2**53
"""Up to this number, a float holds every integer exactly."""


def claim_values(claims: Mapping[str, object], name: str) -> frozenset[str]:
    """The values of a claim as text; empty if the claim is missing. See `claim_paths` for names.

    A list has the values of its items. Numbers are equal if their values are: 42.0 is `42`.
    Booleans are `true` and `false`. Null, objects, lists in a list, numbers that are not finite and
    text that UTF-8 cannot encode have no value, so they match no rule.
    """
    path, value = _find(claims, name)
    if isinstance(value, str) and path in SPACE_SEPARATED:
        value = [scope for scope in value.split(" ") if scope]
    items: Iterable[object] = value if isinstance(value, list) else (value,)
    return frozenset(text for item in items if (text := _text(item)) is not None)


def find_claim(claims: Mapping[str, object], name: str) -> object:
    """The value of a claim as it is in the token; None if it is missing."""
    return _find(claims, name)[1]


def is_text(value: str) -> bool:
    """Whether UTF-8 can encode the value. JSON escapes can produce half of a surrogate pair."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _find(claims: Mapping[str, object], name: str) -> tuple[ClaimPath, object]:
    path: ClaimPath = (name,)
    for path in claim_paths(name):
        if path[0] in claims:
            return path, _member(claims, path)
    return path, None


def _member(claims: Mapping[str, object], path: ClaimPath) -> object:
    value: object = claims
    for segment in path:
        value = value.get(segment) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str | None:
    match value:
        case str():
            return value if is_text(value) else None
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            exact = value.is_integer() and abs(value) <= _MAX_EXACT
            return str(int(value)) if exact else repr(value)
    return None
