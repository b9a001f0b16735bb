"""Tokens with extreme headers and claims, signed by a trusted key or not.

The number of a token determines it, so that a failure can be reproduced.
"""

from random import Random

from extproc.auth import CredentialsError
from tests.extproc.auth.tokens import (
    NOW,
    SECRET,
    claims,
    forged,
    identify,
    issuer,
    key_set,
    make_authenticator,
    secret_jwk,
    token,
)
from tests.mutation import altered, mutated


class Fuzzer:
    """Checks numbered tokens, and counts the accepted and refused ones."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        signed = issuer(
            algorithms=["HS256"], jwks=key_set(secret_jwk(kid="one")), issuer="https://other.test"
        )
        self._authenticator = make_authenticator(issuer(), signed)
        self._valid = token().encode()

    def check(self, number: int) -> None:
        """Verify a token. Raises any exception that is not a CredentialsError."""
        try:
            identity = identify(self._authenticator, self._token(Random(number)), NOW)
        except CredentialsError as error:
            self._check_refusal(error)
        else:
            assert identity.subject
            self.accepted += 1

    def _check_refusal(self, refusal: CredentialsError) -> None:
        assert len(str(refusal)) < 200
        self.refused += 1

    def _token(self, source: Random) -> bytes:
        if source.random() < 0.3:
            return bytes(mutated(self._valid, source, [self._valid]))
        header: object = {"alg": "HS256", "typ": "JWT", "kid": "one"}
        payload: object = claims(iss="https://other.test", group=["a", "b"], nbf=NOW, iat=NOW)
        if source.random() < 0.3:
            header = altered(header, source)
        for _ in range(source.choice((0, 1, 1, 2))):
            payload = altered(payload, source)
        return forged(header, payload, SECRET).encode()
