"""Issuers, keys and tokens for tests."""

import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from extproc.auth import Authenticator, Identity
from sluice.config import Auth, JwtIssuer
from tests.tokens import encoded as encoded
from tests.tokens import key_set as key_set
from tests.tokens import signed

ISSUER = "https://issuer.test"
AUDIENCE = "sluice"
NOW = 1_800_000_000.0
LEEWAY = 30.0

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = b"a secret of more than thirty-two bytes"


def rsa_jwk(key: rsa.RSAPrivateKey = RSA, **members: str) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}


def ec_jwk(**members: str) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), **members}


def ed_jwk(**members: str) -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True), **members}


def secret_jwk(**members: str) -> dict[str, Any]:
    return {"kty": "oct", "k": encoded(SECRET), **members}


def issuer(**settings: object) -> JwtIssuer:
    defaults = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["RS256"]}
    if not settings.keys() & {"jwks_uri", "jwks"}:
        settings["jwks"] = key_set(rsa_jwk(kid="one"))
    return JwtIssuer.model_validate({**defaults, "leeway": LEEWAY, **settings})


def make_authenticator(*issuers: JwtIssuer, **settings: object) -> Authenticator:
    return Authenticator(Auth.model_validate({"issuers": issuers or (issuer(),), **settings}))


def claims(**changes: object) -> dict[str, object]:
    """Claims of a valid token. A change to None leaves the claim out."""
    valid = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 60, **changes}
    return {name: value for name, value in valid.items() if value is not None}


def token(
    payload: dict[str, object] | None = None,
    key: Any = RSA,
    algorithm: str = "RS256",
    **headers: object,
) -> str:
    return signed(payload or claims(), key, algorithm, **{"kid": "one", **headers})


def forged(header: object, payload: object, secret: bytes | None = None) -> str:
    """A token that the `jwt` library refuses to make; signed by HS256 if there is a secret."""
    text = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(payload).encode())}"
    signature = b"" if secret is None else hmac.digest(secret, text.encode(), hashlib.sha256)
    return f"{text}.{encoded(signature)}"


def identify(authenticator: Authenticator, credentials: str | bytes, now: float = NOW) -> Identity:
    """Identify the caller by a token."""
    raw = credentials if isinstance(credentials, bytes) else credentials.encode()
    return authenticator.identify({"authorization": b"Bearer " + raw}, now)
