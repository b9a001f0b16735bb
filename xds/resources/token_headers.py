"""Request headers in which the token filter hands claims to the matchers of native routes.

Envoy loads a new filter and new routes one after the other, in any order. So the header that every
native route for callers with a token needs, the audience, is named by everything that the filter
does with the tokens of the issuer: which of them it verifies, and which claims it copies. A route
of one config never admits a token that the filter of another config has read in another way, and
the callout decides. Clients cannot set these headers, and no model server gets them.
"""

import hashlib
from typing import Final

from sluice.contract.headers import INTERNAL_PREFIX, VERIFIED_SUBJECT

PREFIX: Final = f"{INTERNAL_PREFIX}token-"
"""Prefix of these headers. The upstream filters remove headers with this prefix."""

SUBJECT: Final = VERIFIED_SUBJECT
"""The subject, as it is in the token. It is present if and only if Envoy has verified a token."""

_DIGITS: Final = 16
"""Hex digits of a name: enough that no two names of a config are equal by chance."""


def claim(name: str) -> str:
    """The header with the claim of this name."""
    return _name("claim", name.encode())


def groups(name: str) -> str:
    """The header with the groups of callers whose issuer has them in the claim of this name."""
    return _name("groups", name.encode())


def audience(verification: bytes) -> str:
    """The header with the audience of tokens that are verified in this way."""
    return _name("audience", verification)


def _name(kind: str, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
    return f"{PREFIX}{kind}-{digest}"
