"""JSON Web Key Sets (RFC 7517): which keys may verify a token's signature."""

import json
from dataclasses import dataclass

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.exceptions import PyJWTError

MAX_KEYS = 64
"""Keys read of one set: providers publish two or three, and each could be tried for a token."""

_ALGORITHMS = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
    ("oct", None): ("HS256", "HS384", "HS512"),
}
"""Algorithms by key type and curve (RFC 7518 section 3.1, RFC 8037): a key verifies no others, so
that an RSA public key never passes as an HMAC secret."""

MIN_RSA_BITS = 2048
"""RFC 7518 sections 3.3 and 3.5."""
MIN_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Bytes: as many as the hash has (RFC 7518 section 3.2). Shorter ones can be found by trying."""


class KeySetError(ValueError):
    """The text is no key set, or holds no key that can verify."""


@dataclass(frozen=True, slots=True)
class Key:
    """One verification key."""

    id: str | None
    algorithms: frozenset[str]
    jwk: jwt.PyJWK


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: str | bytes) -> "KeySet":
        """Read a JWKS document. Raises KeySetError."""
        try:
            listed = json.loads(text)["keys"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise KeySetError("not a JSON Web Key Set: there is no list of keys") from error
        if not isinstance(listed, list) or len(listed) > MAX_KEYS:
            raise KeySetError(f"a key set is a list of at most {MAX_KEYS} keys")
        keys = tuple(key for jwk in listed if (key := _parse(jwk)) is not None)
        if not keys:
            raise KeySetError("the key set has no key that can verify signatures")
        return cls(keys)

    def candidates(self, key_id: str | None, algorithm: str) -> tuple[Key, ...]:
        """Keys that may have signed: the one named, or without a name every fitting one."""
        return tuple(
            key
            for key in self.keys
            if algorithm in key.algorithms and (key_id is None or key.id == key_id)
        )


def _parse(jwk: object) -> Key | None:
    """One key; None for a kind or use that verifies nothing (RFC 7517 section 5)."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    kind = str(jwk.get("kty"))
    if kind != "oct" and "d" in jwk:
        return None  # its private half is published, so that anybody can sign with it
    curve = str(jwk.get("crv")) if kind in ("EC", "OKP") else None
    fitting = _ALGORITHMS.get((kind, curve))
    if fitting is None:
        return None
    named = jwk.get("alg")
    if named is not None and named not in fitting:
        return None
    try:
        parsed = jwt.PyJWK(jwk, algorithm=named or fitting[0])
    # One bad key must spoil neither the others nor the next fetch, however it is bad.
    except (PyJWTError, ValueError, TypeError, LookupError, UnsupportedAlgorithm):
        return None
    algorithms = frozenset(
        algorithm
        for algorithm in (fitting if named is None else (named,))
        if _is_strong(parsed.key, algorithm)
    )
    return Key(jwk.get("kid"), algorithms, parsed) if algorithms else None


def _is_strong(key: object, algorithm: str) -> bool:
    """Whether the key is long enough for the algorithm; curves have the length they have."""
    if isinstance(key, bytes):
        return len(key) >= MIN_SECRET[algorithm]
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= MIN_RSA_BITS
    return True
