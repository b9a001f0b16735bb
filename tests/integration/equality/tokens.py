"""Tokens of two issuers, signed so fast that each request can have one of its own.

PyJWT refuses to create many of the tokens that a hostile client sends, so this module signs bytes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests import tokens

Claims = dict[str, object]
Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the algorithm that it signs with, and its public half as a JWK."""

    algorithm: str
    sign: Sign
    jwk: Mapping[str, object]

    @property
    def id(self) -> str:
        return str(self.jwk["kid"])


@cache
def signing_key(algorithm: str, number: int) -> SigningKey:
    """A key of an algorithm. Keys with different numbers differ."""
    name = f"{algorithm}-{number}"
    match algorithm:
        case "ES256":
            elliptic = ec.generate_private_key(ec.SECP256R1())
            sign = _es256(elliptic)
            jwk = ECAlgorithm.to_jwk(elliptic.public_key(), as_dict=True)
        case "EdDSA":
            edwards = ed25519.Ed25519PrivateKey.generate()
            sign = edwards.sign
            jwk = OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True)
        case "RS256" | "RS384" | "PS256":
            # A key that is meant for one of the algorithms can sign with the others too.
            key = _rsa_key(number)
            sign = _rsa(key, algorithm)
            jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case _:
            raise ValueError(algorithm)
    # Many requests have the same token, and a signature takes longer than all else of a request.
    return SigningKey(algorithm, cache(sign), {**jwk, "kid": name, "use": "sig", "alg": algorithm})


def _es256(key: ec.EllipticCurvePrivateKey) -> Sign:
    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


@cache
def _rsa_key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _rsa(key: rsa.RSAPrivateKey, algorithm: str) -> Sign:
    digest = hashes.SHA384() if algorithm == "RS384" else hashes.SHA256()
    if algorithm == "PS256":
        salted = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        return lambda data: key.sign(data, salted, digest)
    return lambda data: key.sign(data, padding.PKCS1v15(), digest)


@dataclass(frozen=True, slots=True)
class Credential:
    """A token before it is signed. `raw_claims` replaces the JSON of the claims,
    and `raw_header` the
    JSON of the header.
    """

    key: SigningKey
    claims: Claims
    header: Claims = field(default_factory=dict)
    """Members in addition to those that every token has. A value of None removes a member."""
    raw_claims: bytes | None = None
    raw_header: bytes | None = None

    def with_claims(self, **claims: object) -> "Credential":
        """This token with other claims. A value of None removes a claim."""
        merged = {**self.claims, **claims}
        return replace(
            self, claims={name: value for name, value in merged.items() if value is not None}
        )

    def with_header(self, **members: object) -> "Credential":
        """This token with other members of its header."""
        return replace(self, header={**self.header, **members})

    def members(self) -> Claims:
        """The members of the header."""
        members = {"alg": self.key.algorithm, "kid": self.key.id, "typ": "JWT", **self.header}
        return {name: value for name, value in members.items() if value is not None}

    def token(self) -> bytes:
        """The signed token."""
        claims = self.raw_claims
        if claims is None:
            claims = json.dumps(self.claims, separators=(",", ":")).encode()
        header = self.raw_header
        if header is None:
            header = json.dumps(self.members()).encode()
        signed = base64url(header) + b"." + base64url(claims)
        return signed + b"." + base64url(self.key.sign(signed))


def base64url(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515 section 2)."""
    return tokens.encoded(data).encode()


def key_set(*keys: SigningKey) -> str:
    """A JSON Web Key Set of public keys."""
    return tokens.key_set(*(key.jwk for key in keys))
