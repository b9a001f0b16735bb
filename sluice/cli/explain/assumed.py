"""The caller that `sluice explain` assumes, whose credentials the user does not have."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AssumedCaller:
    """A caller with a token with these claims, or with an API key of this name; or none."""

    claims: Mapping[str, object] | None
    api_key: str | None
