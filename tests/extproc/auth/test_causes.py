"""Tests of the cause and the message of refused credentials."""

import jwt
import pytest

from extproc.auth import CredentialsError, UnknownKeyError
from extproc.auth.tokens import MAX_CANDIDATES, MAX_TOKEN
from tests.extproc.auth.tokens import (
    EC,
    ISSUER,
    LEEWAY,
    NOW,
    OTHER_RSA,
    claims,
    ec_jwk,
    forged,
    identify,
    issuer,
    key_set,
    make_authenticator,
    rsa_jwk,
    token,
)


def refused(credentials: str, **settings: object) -> CredentialsError:
    with pytest.raises(CredentialsError) as error:
        identify(make_authenticator(issuer(**settings)), credentials)
    return error.value


@pytest.mark.parametrize(
    ("changes", "cause", "message"),
    [
        ({"exp": NOW - LEEWAY - 1}, "expired", "the token has expired"),
        ({"nbf": NOW + LEEWAY + 1}, "not_yet_valid", "its nbf is in the future"),
        ({"aud": "other"}, "wrong_audience", "another audience: its aud is 'other'"),
        ({"aud": ["a", "b"]}, "wrong_audience", "its aud is 'a, b'"),
        ({"aud": ["\n" * 99]}, "wrong_audience", "its aud is '\\n\\n"),
        ({"aud": [7]}, "wrong_audience", "another audience"),
        ({"aud": None}, "wrong_audience", "no aud"),
        ({"iss": "https://nobody.test"}, "unknown_issuer", "'https://nobody.test' is not trusted"),
        ({"iss": None}, "unknown_issuer", "no iss"),
        ({"exp": None}, "invalid_claim", "no exp"),
        ({"exp": "soon"}, "invalid_claim", "exp is not a time"),
        ({"jti": 7}, "invalid_claim", "jti is not text"),
        ({"sub": None}, "no_subject", "claim 'sub' is missing, and must contain the subject"),
        ({"sub": ""}, "no_subject", "claim 'sub' is empty"),
        ({"sub": 7}, "no_subject", "claim 'sub' is not text"),
        ({"sub": ["alice"]}, "no_subject", "claim 'sub' is not text"),
    ],
    ids=str,
)
def test_each_wrong_claim_has_its_cause(
    changes: dict[str, object], cause: str, message: str
) -> None:
    error = refused(token(claims(**changes)))
    assert error.cause == cause
    assert message in str(error)
    assert str(error).isprintable()
    assert len(str(error)) <= 200


@pytest.mark.parametrize(
    ("credentials", "cause"),
    [
        ("x", "malformed"),
        ("a.b.c", "malformed"),
        ("é", "malformed"),
        (token(claims(padding="x" * MAX_TOKEN)), "malformed"),
        (token(crit=["b64"]), "malformed"),
        (forged({"alg": "RS256", "kid": 7}, claims()), "malformed"),
        (token(algorithm="RS512"), "wrong_algorithm"),
        (token(key=OTHER_RSA), "bad_signature"),
        (token(key=OTHER_RSA, kid=None), "bad_signature"),
        (token(kid="next"), "unknown_key"),
    ],
    ids=range(10),
)
def test_each_wrong_token_has_its_cause(credentials: str, cause: str) -> None:
    assert refused(credentials).cause == cause


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        ({"authorization": b"Basic x"}, "wrong_scheme"),
        ({"authorization": b"Bearer x", "x-api-key": b"k"}, "two_credentials"),
        ({"x-api-key": b"k"}, "unknown_api_key"),
        ({"x-api-key": b"k" * 513}, "unknown_api_key"),
    ],
)
def test_other_credentials_have_their_cause(headers: dict[str, bytes], cause: str) -> None:
    with pytest.raises(CredentialsError) as error:
        make_authenticator().identify(headers, NOW)
    assert error.value.cause == cause


def test_the_subject_claim_of_the_config_is_named() -> None:
    error = refused(token(), subject_claim="email")
    assert "claim 'email' is missing, and must contain the subject" in str(error)


def test_a_subject_in_another_claim_allows_every_sub() -> None:
    authenticator = make_authenticator(issuer(subject_claim="email"))
    assert identify(authenticator, token(claims(sub=7, email="a@b.test"))).subject == "a@b.test"


def test_an_unknown_key_is_named_with_its_issuer() -> None:
    message = str(refused(token(kid="next")))
    assert message == f"the key set of {ISSUER} has no RS256 key with the token's kid 'next'"


def test_the_kid_in_a_message_is_bounded_and_printable() -> None:
    long, forging = (
        str(refused(token(kid="k" * 1000))),
        str(refused(token(kid="a\n\x1b[2J\u202eb"))),
    )
    assert len(long) <= 200
    assert forging.isprintable()


def test_a_token_without_kid_that_no_key_verifies_may_have_a_new_key() -> None:
    """The key set is fetched again, as for a `kid` that it does not have."""
    error = refused(token(key=OTHER_RSA, kid=None))
    assert isinstance(error, UnknownKeyError)
    assert "has no kid, and no key of its issuer verifies it" in str(error)


def test_a_kid_that_only_keys_without_kid_could_have_is_unknown() -> None:
    error = refused(token(key=OTHER_RSA, kid="next"), jwks=key_set(rsa_jwk()))
    assert isinstance(error, UnknownKeyError)
    assert "the token's kid 'next'" in str(error)


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The key of each verification of a signature."""
    verified: list[object] = []
    decode = jwt.decode

    def counted(token: str, key: object, **options: object) -> object:
        verified.append(key)
        return decode(token, key, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(jwt, "decode", counted)
    return verified


@pytest.mark.parametrize("kid", [None, "next"])
def test_the_signatures_that_a_token_makes_the_worker_verify_are_bounded(
    verifications: list[object], kid: str | None
) -> None:
    jwks = key_set(*(rsa_jwk() for _ in range(MAX_CANDIDATES)), ec_jwk())
    refused(token(key=OTHER_RSA, kid=kid), jwks=jwks)
    assert len(verifications) == MAX_CANDIDATES
    verifications.clear()
    jwks = key_set(*(rsa_jwk() for _ in range(MAX_CANDIDATES + 1)), ec_jwk())
    error = refused(token(key=OTHER_RSA, kid=kid), jwks=jwks)
    assert (error.cause, len(verifications)) == ("no_key_id", 0)
    assert "set kid in the token and in the key set" in str(error)


def test_the_kid_spares_the_other_keys(verifications: list[object]) -> None:
    keys = [rsa_jwk(OTHER_RSA, kid=str(number)) for number in range(60)]
    authenticator = make_authenticator(issuer(jwks=key_set(*keys, rsa_jwk(kid="one"))))
    assert identify(authenticator, token()).subject == "alice"
    assert len(verifications) == 1


def test_keys_of_another_type_are_not_tried(verifications: list[object]) -> None:
    keys = key_set(rsa_jwk(), ec_jwk(), rsa_jwk(OTHER_RSA))
    settings = issuer(algorithms=["RS256", "ES256"], jwks=keys)
    assert identify(make_authenticator(settings), token(None, EC, "ES256", kid=None))
    assert len(verifications) == 1
