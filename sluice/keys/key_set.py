"""JSON Web Key Sets (RFC 7517): parses them, and finds the keys that may verify a token."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.exceptions import PyJWTError

MAX_DOCUMENT = 1 << 20
"""Bytes. A set of 64 keys is much smaller."""

MAX_KEYS = 64
"""Keys in one set. Providers publish two or three."""

MAX_CANDIDATES = 8
"""Maximum keys that a token is tried with. A signature takes up to a millisecond to verify, and
anyone can send tokens. Providers publish two or three keys of one algorithm."""

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_ALGORITHMS = {
    ("RSA", None): RSA_ALGORITHMS,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
    ("oct", None): ("HS256", "HS384", "HS512"),
}
"""Algorithms by key type and curve (RFC 7518 section 3.1, RFC 8037). A key verifies no other
algorithm, so an RSA public key cannot be used as an HMAC secret."""

MIN_RSA_BITS = 2048
"""Minimum bits of an RSA key (RFC 7518 sections 3.3 and 3.5)."""
MAX_RSA_BITS = 8192
"""Maximum bits of an RSA key. The time of a verification grows with the square of the length."""
MIN_RSA_EXPONENT = 3
"""With the exponent 1, anyone can make a valid signature."""
MAX_MEMBER = 4 * ((MAX_RSA_BITS // 8 + 2) // 3)
"""Characters of a member of a key: the base64 of the longest modulus."""
MAX_KEY_ID = 1024
"""Characters of a `kid`. A token names it, and a token has at most 8 KiB."""
_NUMBERS = ("n", "e", "x", "y", "k")
"""Members of a key with a number or secret (RFC 7518 section 6)."""
MIN_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Minimum bytes of a secret: the length of the hash (RFC 7518 section 3.2)."""


class KeySetError(ValueError):
    """The document is not a key set, or none of its keys can verify signatures."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that verifies signatures of `algorithms`."""

    id: str | None
    algorithms: frozenset[str]
    jwk: jwt.PyJWK


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: str | bytes) -> "KeySet":
        """Parse a JWKS document. Ignores keys that are not valid. Raises KeySetError.

        A set without entries is valid: it revokes every key. If a set has entries, one of them must
        be valid, because the document may be damaged or from another server.
        """
        if len(text) > MAX_DOCUMENT:
            raise KeySetError("the key set is larger than 1 MiB")
        jwks = _list_of_keys(text)
        parsed = [_parse(jwk) for jwk in jwks]
        keys = tuple(each for each in parsed if isinstance(each, Key))
        faults = [each for each in parsed if isinstance(each, str)]
        if faults and not keys:
            first = "the only key" if len(faults) == 1 else "the first key"
            raise KeySetError(
                f"the key set has no key that can verify signatures: {first} {faults[0]}"
            )
        return cls(keys)

    def candidates(self, key_id: str | None, algorithm: str) -> tuple[Key, ...]:
        """Keys that may verify a token of this algorithm with this `kid`, or without one.

        `kid` is optional in a key (RFC 7517 section 4.5) and in a token (RFC 7515 section 4.1.4).
        A key without it may be the token's key, as in Envoy's jwt_authn. Keys with the token's
        `kid` come first. A key with another `kid` is no candidate.
        """
        keys = [key for key in self.keys if algorithm in key.algorithms]
        if key_id is None:
            return tuple(keys)
        named = (key for key in keys if key.id == key_id)
        return (*named, *(key for key in keys if key.id is None))


def _list_of_keys(text: str | bytes) -> list[object]:
    """The entries of a key set. Raises KeySetError, whose message has no part of the document."""
    try:
        document = json.loads(text)
    # `from None`: the exception of the decoder contains the document.
    except (ValueError, RecursionError):
        pem = text.lstrip()[:10] in ("-----BEGIN", b"-----BEGIN")
        reason = "it is PEM, not JSON" if pem else "it is not JSON"
        raise KeySetError(f"not a JSON Web Key Set: {reason}") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        single = isinstance(document, dict) and "kty" in document
        reason = 'it is one key; write {"keys": [KEY]}' if single else "it has no list of keys"
        raise KeySetError(f"not a JSON Web Key Set: {reason}")
    if len(keys) > MAX_KEYS:
        raise KeySetError(f"a key set must be a list of at most {MAX_KEYS} keys")
    return keys


def _parse(jwk: object) -> Key | str:
    """Parse one key. If it cannot verify signatures (RFC 7517 section 5), returns why not."""
    if not isinstance(jwk, dict):
        return "is not a JSON object"
    if jwk.get("use", "sig") != "sig":
        return "is not for signatures (use)"
    kind = str(jwk.get("kty"))
    if kind != "oct" and "d" in jwk:
        # The private key has been published, so anyone can sign with it.
        return "has its private half (d); a key set must have public keys only"
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return "is not for signatures (key_ops)"  # RFC 7517 section 4.3
    curve = str(jwk.get("crv")) if kind in ("EC", "OKP") else None
    algorithms = _ALGORITHMS.get((kind, curve))
    if algorithms is None:
        return "has an unknown type or curve (kty, crv)"
    name = jwk.get("alg")
    if name is not None and name not in algorithms:
        return "has an algorithm that does not fit its type (alg)"
    if not _is_bounded(jwk):
        return "has a member that is too long or no text"
    try:
        parsed = jwt.PyJWK(jwk, algorithm=name or algorithms[0])
    # An invalid key must not affect the other keys or the next fetch.
    except (PyJWTError, ValueError, TypeError, LookupError, UnsupportedAlgorithm):
        return "is not valid"
    allowed = frozenset(
        algorithm
        for algorithm in (algorithms if name is None else (name,))
        if _is_strong(parsed.key, algorithm)
    )
    key_id = jwk.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        return "has a kid that is no text"  # RFC 7517 section 4.5
    # An empty `kid` names no key, as in Envoy.
    return Key(key_id or None, allowed, parsed) if allowed else "is too weak"


def _is_bounded(jwk: Mapping[str, object]) -> bool:
    """Whether no member is longer than that of the largest key."""
    key_id = jwk.get("kid")
    return all(
        isinstance(value, str) and len(value) <= MAX_MEMBER
        for name in _NUMBERS
        if (value := jwk.get(name)) is not None
    ) and (not isinstance(key_id, str) or len(key_id) <= MAX_KEY_ID)


def _is_strong(key: object, algorithm: str) -> bool:
    """Whether the key is strong enough for the algorithm. Keys of every accepted curve are."""
    if isinstance(key, bytes):
        return len(key) >= MIN_SECRET[algorithm]
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        return (
            MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
            and exponent >= MIN_RSA_EXPONENT
            and exponent % 2 == 1
        )
    return True
