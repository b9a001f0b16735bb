"""Tests of which keys of a key set are accepted."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from extproc.auth import CredentialsError
from sluice.keys.key_set import MAX_DOCUMENT, MAX_KEYS, KeySet, KeySetError
from tests.extproc.auth.tokens import (
    EC,
    OTHER_RSA,
    RSA,
    claims,
    ec_jwk,
    ed_jwk,
    encoded,
    identify,
    issuer,
    key_set,
    make_authenticator,
    rsa_jwk,
    secret_jwk,
    token,
)

SMALL_RSA = rsa.generate_private_key(65537, 1024)
P384 = ec.generate_private_key(ec.SECP384R1())


def numbers(exponent: int) -> str:
    return encoded(exponent.to_bytes((exponent.bit_length() + 7) // 8, "big"))


INVALID = {
    "modulus of a megabit": rsa_jwk(n="_" * 174_763),
    "modulus of 16384 bits": rsa_jwk(n="_" * 2731),
    "exponent of 1": rsa_jwk(e=numbers(1)),
    "even exponent": rsa_jwk(e=numbers(65_536)),
    "exponent of 8192 bits": rsa_jwk(e=numbers((1 << 8191) + 1)),
    "exponent of a megabit": rsa_jwk(e="_" * 174_763),
    "curve point of a megabit": ec_jwk(x="_" * 174_763),
    "secret of a megabit": secret_jwk(k="_" * 174_763),
    "kid of a megabyte": rsa_jwk(kid="k" * 1_000_000),
    "for other operations": {**rsa_jwk(), "key_ops": ["sign", "encrypt"]},
    "operations of another type": {**rsa_jwk(), "key_ops": "verify"},
    "not an object": 7,
    "no kty": {},
    "unknown kty": {"kty": "AKP"},
    "kty of another type": {"kty": ["RSA"]},
    "unknown curve": ec_jwk(crv="secp256k1"),
    "curve of another key": ec_jwk(crv="P-384"),
    "point off the curve": ec_jwk(x="AA" * 21 + "A"),
    "members missing": {"kty": "RSA", "n": "AQAB"},
    "members of another type": {**rsa_jwk(), "n": 7},
    "members not in base64": rsa_jwk(n="ä"),
    "modulus of three bytes": rsa_jwk(n="AQAB"),
    "modulus of 1024 bits": rsa_jwk(SMALL_RSA),
    "lone surrogate": secret_jwk(k="\ud800"),
    "no secret": secret_jwk(k=""),
    "short secret": secret_jwk(k=encoded(b"x" * 31)),
    "algorithm of another key type": rsa_jwk(alg="ES256"),
    "algorithm of a secret": rsa_jwk(alg="HS256"),
    "algorithm of another type": {**rsa_jwk(), "alg": ["RS256"]},
    "algorithm that is an object": {**rsa_jwk(), "alg": {}},
    "for encryption": rsa_jwk(use="enc"),
    "for a use of another type": {**rsa_jwk(), "use": ["sig"]},
    "RSA with its private half": RSAAlgorithm.to_jwk(OTHER_RSA, as_dict=True),
    "EC with its private half": ECAlgorithm.to_jwk(EC, as_dict=True),
}


@pytest.mark.parametrize("jwk", INVALID.values(), ids=INVALID)
def test_an_invalid_key_does_not_affect_the_other_keys(jwk: Any) -> None:
    with pytest.raises(KeySetError):
        KeySet.parse(json.dumps({"keys": [jwk]}))
    (valid,) = KeySet.parse(json.dumps({"keys": [jwk, rsa_jwk(kid="one")]})).keys
    assert valid.id == "one"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_MEMBERS = st.sampled_from(["kty", "crv", "alg", "use", "kid", "n", "e", "x", "y", "k", "d"])


@given(
    st.sampled_from([rsa_jwk(), ec_jwk(), ed_jwk(), secret_jwk()]),
    st.dictionaries(_MEMBERS, _JSON | st.sampled_from(["RSA", "P-256", "HS256"]), max_size=4),
)
def test_arbitrary_members_of_a_key_do_not_affect_the_other_keys(
    jwk: dict[str, Any], changes: dict[str, Any]
) -> None:
    keys = KeySet.parse(json.dumps({"keys": [{**jwk, **changes}, rsa_jwk(kid="valid")]}))
    assert keys.keys[-1].id == "valid"


@given(st.binary(max_size=200) | st.text(max_size=200) | _JSON.map(json.dumps))
def test_a_document_that_is_not_a_key_set_is_refused(text: str | bytes) -> None:
    with pytest.raises(KeySetError):
        KeySet.parse(text)


PRIVATE = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON"),
        ("-----BEGIN PUBLIC KEY-----\nMFkw", "it is PEM, not JSON"),
        (b"\n-----BEGIN PRIVATE KEY-----\nMFkw", "it is PEM, not JSON"),
        ("[]", "it has no list of keys"),
        (json.dumps(rsa_jwk()), 'it is one key; write {"keys": [KEY]}'),
        (key_set(PRIVATE), "the only key has its private half (d)"),
        (key_set(PRIVATE, {}), "the first key has its private half (d)"),
        (key_set(rsa_jwk(use="enc")), "the only key is not for signatures (use)"),
        (key_set({"kty": "oct", "k": "c2hvcnQ"}), "the only key is too weak"),
    ],
)  # fmt: skip
def test_the_error_says_what_the_document_is_and_shows_no_part_of_it(
    text: str | bytes, message: str
) -> None:
    with pytest.raises(KeySetError) as caught:
        KeySet.parse(text)
    assert message in str(caught.value)
    assert not any(part in str(caught.value) for part in ("MFkw", "c2hvcnQ", PRIVATE["d"]))


def test_the_number_of_keys_in_a_set_is_bounded() -> None:
    full = [rsa_jwk(kid=str(number)) for number in range(MAX_KEYS)]
    assert len(KeySet.parse(key_set(*full)).keys) == MAX_KEYS
    with pytest.raises(KeySetError, match="at most"):
        KeySet.parse(key_set(*full, rsa_jwk()))


def test_a_secret_must_be_as_long_as_the_hash() -> None:
    (key,) = KeySet.parse(key_set(secret_jwk(k=encoded(b"x" * 48)))).keys
    assert key.algorithms == {"HS256", "HS384"}
    with pytest.raises(KeySetError):
        KeySet.parse(key_set(secret_jwk(k=encoded(b"x" * 48), alg="HS512")))


def test_a_curve_verifies_only_its_own_algorithm() -> None:
    """ES256 means P-256 (RFC 7518 section 3.4), even if the signature is valid."""
    jwk = {**ECAlgorithm.to_jwk(P384.public_key(), as_dict=True), "kid": "one"}
    authenticator = make_authenticator(issuer(algorithms=["ES256", "ES384"], jwks=key_set(jwk)))
    assert identify(authenticator, token(key=P384, algorithm="ES384")).subject == "alice"
    mixed = issuer(algorithms=["ES256", "ES384"], jwks=key_set(ec_jwk(kid="one")))
    with pytest.raises(CredentialsError):
        identify(make_authenticator(mixed), token(key=P384, algorithm="ES384"))


def test_each_key_with_the_same_kid_is_tried() -> None:
    keys = key_set(rsa_jwk(OTHER_RSA, kid="one"), rsa_jwk(kid="one"), ec_jwk(kid="one"))
    authenticator = make_authenticator(issuer(jwks=keys))
    for key in (RSA, OTHER_RSA):
        assert identify(authenticator, token(claims(jti=str(id(key))), key)).subject == "alice"


@pytest.mark.parametrize("kid", [None, "one"])
def test_a_key_without_kid_verifies_tokens_with_and_without_kid(kid: str | None) -> None:
    keys = key_set(rsa_jwk(OTHER_RSA, kid="other"), rsa_jwk())
    assert identify(make_authenticator(issuer(jwks=keys)), token(kid=kid)).subject == "alice"


def test_keys_with_the_kid_come_first_and_keys_with_another_kid_are_no_candidates() -> None:
    parsed = KeySet.parse(
        key_set(rsa_jwk(), rsa_jwk(kid="one"), rsa_jwk(kid="two"), ec_jwk(kid="one"))
    )
    assert [key.id for key in parsed.candidates("one", "RS256")] == ["one", None]
    assert [key.id for key in parsed.candidates("three", "RS256")] == [None]
    assert [key.id for key in parsed.candidates(None, "RS256")] == [None, "one", "two"]


def test_a_key_whose_kid_is_not_text_is_ignored() -> None:
    parsed = KeySet.parse(key_set({**rsa_jwk(), "kid": 1}, rsa_jwk(kid="one")))
    assert [key.id for key in parsed.keys] == ["one"]


def test_a_set_without_entries_is_valid_and_has_no_key() -> None:
    assert KeySet.parse('{"keys": []}').keys == ()


def test_a_document_that_is_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(KeySetError, match="larger than 1 MiB"):
        KeySet.parse(" " * (MAX_DOCUMENT + 1))
