"""Signing keys: creates and reads private keys, and derives the JSON Web Keys that verify them.

Reads and writes no files. Parsing the key sets of issuers is in `sluice.keys.key_set`.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import TypeAlias, cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from sluice.keys.key_set import RSA_ALGORITHMS, KeySet, KeySetError

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
PublicKey: TypeAlias = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)
Jwk: TypeAlias = dict[str, object]

RSA_BITS = 2048
_CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
}
ALGORITHMS = (*RSA_ALGORITHMS, *_CURVES, "EdDSA")
"""Algorithms of tokens that a private key can sign (RFC 7518 section 3.1, RFC 8037)."""

_THUMBPRINT_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
_OKP_MEMBERS = ("crv", "kty", "x")
_SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class SigningKeyError(ValueError):
    """The document has no key of a supported kind, or the key does not have the algorithm."""


def generate(algorithm: str) -> PrivateKey:
    """A new private key for tokens with this algorithm, which is one of `ALGORITHMS`."""
    if algorithm in RSA_ALGORITHMS:
        return rsa.generate_private_key(65537, RSA_BITS)
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm])
    return ed25519.Ed25519PrivateKey.generate()


def private_pem(key: PrivateKey) -> bytes:
    """The private key in PEM (PKCS #8), without encryption."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def parse_private_key(pem: bytes) -> PrivateKey:
    """The private key of a PEM document. Raises SigningKeyError."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise SigningKeyError("the private key is encrypted: decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningKeyError("not a private key in PEM") from None
    if not isinstance(key, PrivateKey):
        raise SigningKeyError("not an RSA, EC or Ed25519 key")
    return key


def default_algorithm(key: PrivateKey | PublicKey) -> str:
    """RS256 for an RSA key; for other keys, their only algorithm. Raises SigningKeyError."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        for algorithm, curve in _CURVES.items():
            if curve.name == key.curve.name:
                return algorithm
        raise SigningKeyError(f"the curve {key.curve.name} is not one of P-256, P-384 and P-521")
    return "EdDSA"


def checked_algorithm(key: PrivateKey | PublicKey, algorithm: str | None) -> str:
    """The algorithm, or the default one of the key. Raises SigningKeyError if the key lacks it."""
    default = default_algorithm(key)
    allowed = RSA_ALGORITHMS if default == "RS256" else (default,)
    if algorithm is not None and algorithm not in allowed:
        raise SigningKeyError(f"the key can sign with {', '.join(allowed)}, not with {algorithm}")
    return algorithm or default


def public_jwk(
    key: PrivateKey | PublicKey, *, key_id: str | None = None, algorithm: str | None = None
) -> Jwk:
    """The JSON Web Key that verifies tokens of the key. Raises SigningKeyError.

    `key_id`: its `kid`; None: the thumbprint. `algorithm`: None: the default one of the key.
    """
    alg = checked_algorithm(key, algorithm)
    members = public_members(key.public_key() if isinstance(key, PrivateKey) else key)
    jwk = {**members, "use": "sig", "alg": alg, "kid": key_id or thumbprint(members)}
    _check_accepted(jwk)
    return jwk


def sign(
    key: PrivateKey,
    claims: Mapping[str, object],
    *,
    key_id: str | None = None,
    algorithm: str | None = None,
) -> str:
    """A token with these claims. Raises SigningKeyError, and ValueError for a claim.

    `key_id`: the `kid` in the header; empty: none; None: that of `public_jwk`. `algorithm`: None:
    the default one of the key.
    """
    alg = checked_algorithm(key, algorithm)
    kid = thumbprint(public_members(key.public_key())) if key_id is None else key_id
    try:
        return jwt.encode(dict(claims), key, alg, {"kid": kid} if kid else None)
    except (TypeError, jwt.PyJWTError) as error:
        raise ValueError(str(error)) from error


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The SHA-256 thumbprint of a key (RFC 7638), a stable `kid` that needs no register."""
    names = _THUMBPRINT_MEMBERS.get(str(jwk["kty"]), _OKP_MEMBERS)
    text = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"), sort_keys=True)
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def parse_public_keys(document: bytes) -> PublicKey | list[Jwk]:
    """The public key of a PEM document, private or public; the keys of a JSON Web Key Set.

    The JSON Web Keys have no private members. Raises SigningKeyError, or KeySetError for a set
    that the gateway does not accept.
    """
    if document.lstrip().startswith(b"{"):
        return _keys_of_set(document)
    if b"PRIVATE KEY" in document:
        return parse_private_key(document).public_key()
    try:
        key = serialization.load_pem_public_key(document)
    except (ValueError, UnsupportedAlgorithm):
        raise SigningKeyError("neither a key in PEM nor a JSON Web Key Set") from None
    if not isinstance(key, PublicKey):
        raise SigningKeyError("not an RSA, EC or Ed25519 key")
    return key


def _keys_of_set(document: bytes) -> list[Jwk]:
    KeySet.parse(document)  # raises KeySetError, a ValueError that names the fault
    keys = json.loads(document)["keys"]
    for jwk in keys:
        if not isinstance(jwk, dict) or jwk.get("kty") == "oct":
            raise SigningKeyError("a symmetric key has no public part, so it cannot be shown")
    return [
        {name: value for name, value in jwk.items() if name not in _SECRET_MEMBERS} for jwk in keys
    ]


def public_members(key: PublicKey) -> Jwk:
    """The members of a JSON Web Key that the public key itself has: type, curve and numbers."""
    if isinstance(key, rsa.RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(key, as_dict=True)
    return {name: value for name, value in cast("Jwk", jwk).items() if name != "key_ops"}


def _check_accepted(jwk: Jwk) -> None:
    """Raises SigningKeyError for a key that the gateway would ignore."""
    try:
        KeySet.parse(json.dumps({"keys": [jwk]}))
    except KeySetError:
        raise SigningKeyError(
            "the gateway does not accept this key: an RSA key must have 2048 to 8192 bits"
        ) from None
