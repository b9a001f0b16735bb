"""Names of claims in the config: which place of a token's claims a name stands for."""

from functools import lru_cache

ClaimPath = tuple[str, ...]
"""Names of members from the outermost object to the claim, as in Envoy's path matchers."""

SPACE_SEPARATED: frozenset[ClaimPath] = frozenset((("scope",), ("scp",)))
"""Claims whose text is a list of values, separated by spaces: `scope` (RFC 8693 section 4.2) and
`scp`, its name in Microsoft Entra ID. In every other claim, a space is a part of the value: the
group `vip admin` is not the group `admin`."""


@lru_cache(maxsize=1024)
def claim_paths(name: str) -> tuple[ClaimPath, ...]:
    """The places of a claim, one or two. The first one that exists in the token applies.

    A name stands for the claim with exactly this name, so `https://example.com/roles` needs no
    escapes. If the token has no such claim, dots separate the names of nested members
    (`realm_access.roles`). A name that begins with `/` is a JSON Pointer (RFC 6901) instead, for
    members whose names contain dots (`/resource_access/my.client/roles`).
    """
    nested = tuple(_pointer(name) if name.startswith("/") else name.split("."))
    if "" in nested or nested == (name,):
        return ((name,),)
    return (name,), nested


def _pointer(name: str) -> list[str]:
    segments = name.removeprefix("/").split("/")
    return [segment.replace("~1", "/").replace("~0", "~") for segment in segments]
