"""Request headers in which the token filter hands claims to the matchers of native routes.

The names depend on what a header holds. So while a new config reaches Envoy, a route of one config
never reads a claim that the filter of another config has put there for another purpose. Clients
cannot set these headers, and no model server gets them.
"""

import hashlib
from typing import Final

from sluice.contract.headers import INTERNAL_PREFIX

SUBJECT: Final = f"{INTERNAL_PREFIX}token-subject"
"""The subject, as it is in the token. It is present if and only if Envoy has verified a token."""

_DIGITS: Final = 16
"""Hex digits of a name: enough that no two names of a config are equal by chance."""


def claim(name: str) -> str:
    """The header with the claim of this name."""
    return _name("claim", name)


def groups(name: str) -> str:
    """The header with the groups of callers whose issuer has them in the claim of this name."""
    return _name("groups", name)


def audience(issuer: str) -> str:
    """The header with the audience of tokens of this issuer."""
    return _name("audience", issuer)


def _name(kind: str, content: str) -> str:
    digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]
    return f"{INTERNAL_PREFIX}token-{kind}-{digest}"
