"""Signed tokens and the key sets that verify them."""

import json
import time
from collections.abc import Iterator

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://issuer.bench"
AUDIENCE = "bench"
_LIFETIME = 24 * 3600
"""Seconds: longer than any benchmark."""


class TokenIssuer:
    """Signs RS256 tokens."""

    def __init__(self, name: str = ISSUER) -> None:
        self.name = name
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def jwks(self) -> str:
        """The issuer's public key as a JSON Web Key Set."""
        jwk = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**jwk, "kid": "bench", "alg": "RS256"}]})

    def token(self, **claims: object) -> str:
        """A token with these claims, and with `iss`, `aud` and `exp`."""
        standard = {"iss": self.name, "aud": AUDIENCE, "exp": int(time.time()) + _LIFETIME}
        return jwt.encode(
            {**standard, **claims}, self._key, algorithm="RS256", headers={"kid": "bench"}
        )


def token_and_jwks() -> tuple[str, str]:
    """A token, and its issuer's keys as JSON."""
    issuer = TokenIssuer()
    return issuer.token(sub="user-1", group="vip"), issuer.jwks


def distinct_tokens(issuers: list[TokenIssuer], count: int) -> Iterator[str]:
    """Tokens of different users, of each issuer in turn. One of ten has the claim `tier: gold`."""
    for number in range(count):
        claims: dict[str, object] = {
            "sub": f"user-{number}",
            "groups": ["vip" if number % 3 else "staff", f"team-{number % 40}"],
            "iat": int(time.time()),
            "email": f"user-{number}@example.com",
        }
        if number % 10 == 0:
            claims["tier"] = "gold"
        yield issuers[number % len(issuers)].token(**claims)
