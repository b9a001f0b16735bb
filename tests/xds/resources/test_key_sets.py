"""The key sets that Envoy gets. tests/integration/test_native_key_sets.py tries them in Envoy."""

import json
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sluice.keys.key_set import MAX_CANDIDATES, KeySet
from sluice.keys.signing import PrivateKey, public_members
from xds.resources.key_sets import TOKEN_PATTERN, envoy_key_set

RSA = rsa.generate_private_key(65537, 2048)
EDWARDS = ed25519.Ed25519PrivateKey.generate()
CURVE = ec.generate_private_key(ec.SECP256R1())
SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA"


def jwk(key: PrivateKey, **members: object) -> dict[str, object]:
    return {**public_members(key.public_key()), **members}


def result(*jwks: dict[str, object], algorithms: str = "RS256 EdDSA ES256 HS256") -> object:
    text = envoy_key_set(KeySet.parse(json.dumps({"keys": jwks})), algorithms.split())
    return None if text is None else json.loads(text)["keys"]


def test_a_key_for_two_algorithms_appears_once_for_each() -> None:
    assert result(jwk(RSA, kid="a"), algorithms="RS256 PS512") == [
        jwk(RSA, kid="a", alg="PS512"),
        jwk(RSA, kid="a", alg="RS256"),
    ]


def test_a_key_has_only_the_members_that_verify() -> None:
    extra = {
        "x5c": ["certificate"],
        "x5u": "https://other.test",
        "use": "sig",
        "key_ops": ["verify"],
    }
    assert result(jwk(EDWARDS, kid="a", **extra)) == [jwk(EDWARDS, kid="a", alg="EdDSA")]


@pytest.mark.parametrize(
    "left_out",
    [
        {"kty": "oct", "k": SECRET, "kid": "secret"},
        jwk(CURVE, kid="curve"),
        jwk(rsa.generate_private_key(65537, 2048), kid="half \ud800"),
        jwk(rsa.generate_private_key(65537, 2048), use="enc"),
        jwk(rsa.generate_private_key(65537, 2048), key_ops=["sign"]),
        jwk(rsa.generate_private_key(65537, 2048), alg="RS384"),
    ],
)
def test_a_key_that_envoy_would_use_otherwise_is_left_out(left_out: dict[str, object]) -> None:
    assert result(jwk(RSA, kid="a"), left_out) == [jwk(RSA, kid="a", alg="RS256")]


def test_without_a_usable_key_there_is_no_key_set() -> None:
    assert result(jwk(CURVE)) is None
    assert result() is None
    assert result(jwk(RSA), algorithms="ES256") is None


def test_an_algorithm_with_more_keys_than_the_callout_tries_is_left_out() -> None:
    keys = [jwk(RSA, kid=str(n), alg="RS256") for n in range(MAX_CANDIDATES)]
    assert result(*keys) == keys
    assert result(*keys, jwk(RSA, alg="RS256"), jwk(EDWARDS, kid="a")) == [
        jwk(EDWARDS, kid="a", alg="EdDSA")
    ]


@pytest.mark.parametrize(
    ("token", "accepted"),
    [
        ("a.b.Zg", True),
        ("a.b.Zm8", True),
        ("a.b.Zm9v", True),
        ("a.b.Zm9vZg", True),
        ("a.b.Zh", False),
        ("a.b.Zm9", False),
        ("a.b.Z", False),
        ("a.b.Zm9vZ", False),
        ("a.b.Zg==", False),
        ("a.b=.Zg", False),
        ("a.b.Zm 8", False),
        ("a.b.Zm8\t", False),
        ("a b.c.Zm8", False),
        ("a.b.Zm8 d.e.Zm8", False),
        (".a.b.Zm8", False),
        ('"a.b.Zm8', False),
        ("/a.b.Zm8", False),
        ("-a.b.Zm8", True),
        ("a..b.Zm8", False),
        ("a.b.c.Zm8", False),
        ("b.Zm8", False),
    ],
)
def test_the_pattern_accepts_one_spelling_of_a_token(token: str, accepted: bool) -> None:
    assert (re.fullmatch(TOKEN_PATTERN, token) is not None) is accepted
