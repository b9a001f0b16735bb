"""A signed token and the key set that verifies it."""

import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://issuer.bench"
AUDIENCE = "bench"


def token_and_jwks() -> tuple[str, str]:
    """An RS256 token that is valid for an hour, and its issuer's keys as JSON."""
    key = rsa.generate_private_key(65537, 2048)
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "group": "vip", "exp": now + 3600}
    token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "bench"})
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return token, json.dumps({"keys": [{**jwk, "kid": "bench", "alg": "RS256"}]})
