"""The keys and algorithms with which Envoy's jwt_authn verifies tokens exactly as the callout does.

A key or an algorithm that is left out costs no request: the callout decides these requests.
"""

import json
from collections.abc import Collection
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from sluice.config.placement import NATIVE_ALGORITHMS
from sluice.keys.key_set import MAX_CANDIDATES, Key, KeySet
from sluice.keys.signing import public_members

_RSA_EXPONENTS: Final = (3, 65537)
"""Public exponents that Envoy accepts. With another one, it ignores the whole key set."""

_PART: Final = r"[!-\-/-<>-~]"
"""Printable ASCII without `=` and `.`. Envoy refuses characters that are not in
base64url, except for blanks and padding."""

TOKEN_PATTERN: Final = (
    rf"[\w-]{_PART}*\.{_PART}+\.(?:{_PART}{{4}})*(?:{_PART}[AQgw]|{_PART}{{2}}[AEIMQUYcgkosw048])?"
)
"""Regular expression (RE2) of the tokens for which Envoy and the callout agree: JWS compact
serialization of three parts, whose signature has no padding and no unused bits set (RFC 4648
section 3.5). Envoy ignores the last two, parts that are empty, and all characters before the first
of base64url. It refuses a regular expression that is much longer."""


def envoy_key_set(keys: KeySet, algorithms: Collection[str]) -> str | None:
    """The JSON Web Key Set for the tokens of one issuer with these algorithms.

    None if Envoy can verify no token with it; Envoy would log a key set that it cannot use. Every
    key has one `alg`, because Envoy would use a key without one for every algorithm of its type. So
    a key for two algorithms appears twice. An empty `kid` fits every token, as in the callout.
    """
    jwks = [
        {**public_members(key.jwk.key), "alg": algorithm, "kid": key.id or ""}
        for algorithm in sorted(NATIVE_ALGORITHMS.intersection(algorithms))
        for key in _usable(keys, algorithm)
    ]
    return json.dumps({"keys": jwks}) if jwks else None


def _usable(keys: KeySet, algorithm: str) -> list[Key]:
    """The keys for an algorithm that Envoy uses as the callout does."""
    candidates = keys.candidates(None, algorithm)
    if len(candidates) > MAX_CANDIDATES:
        # Envoy tries all of them, and the callout refuses tokens that do not name a key.
        return []
    return [key for key in candidates if _is_supported(key)]


def _is_supported(key: Key) -> bool:
    """Whether Envoy can read the key. It ignores a key set with a key that it cannot read."""
    public = key.jwk.key
    if isinstance(public, rsa.RSAPublicKey):
        return public.public_numbers().e in _RSA_EXPONENTS and _is_json_text(key.id)
    return not isinstance(public, ed448.Ed448PublicKey) and _is_json_text(key.id)


def _is_json_text(text: str | None) -> bool:
    """Whether UTF-8 can encode the text: half of a surrogate pair makes Envoy refuse the JSON."""
    return text is None or not any("\ud800" <= character <= "\udfff" for character in text)
