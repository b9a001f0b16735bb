"""The issuers whose tokens Envoy can verify exactly as the callout does."""

from typing import Final

from sluice.config.auth import JwtIssuer
from sluice.config.placement.comparable import is_plain, is_plain_name
from sluice.keys.key_set import RSA_ALGORITHMS

NATIVE_ALGORITHMS: Final = frozenset((*RSA_ALGORITHMS, "EdDSA"))
"""Algorithms with which Envoy accepts exactly the tokens that the callout accepts.

Not ES*: Envoy accepts a signature that is padded with zeros, against RFC 7518 section 3.4. Not HS*:
Envoy shows its config, and with it the shared secret, on its admin interface.
"""


MIN_LEEWAY: Final = 2
"""Minimum seconds of `leeway` of a native issuer. Envoy admits a token during the whole second in
which it expires, so its own leeway is one second shorter, and it cannot be 0."""


def issuer_obstacle(issuer: JwtIssuer) -> str:
    """Why Envoy cannot verify the issuer's tokens as the callout does; empty if it can."""
    if NATIVE_ALGORITHMS.isdisjoint(issuer.algorithms):
        return f"algorithms: Envoy verifies {', '.join(sorted(NATIVE_ALGORITHMS))}"
    if issuer.leeway < MIN_LEEWAY:
        return f"leeway: Envoy needs at least {MIN_LEEWAY} seconds"
    if issuer.subject_claim != "sub":
        return "subject_claim: only sub is certain to be text in Envoy"
    if not is_plain_name(issuer.group_claim):
        return "group_claim: Envoy reads a name with dots or a slash in another way"
    if not any(map(is_plain, issuer.audiences)):
        return "audiences: Envoy cannot compare these values exactly"
    return ""
