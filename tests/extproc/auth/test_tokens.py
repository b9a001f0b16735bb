"""Tests of which tokens are accepted."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth import CredentialsError, UnknownKeyError
from extproc.auth.authenticator import MAX_CACHED_TOKEN
from extproc.auth.tokens import MAX_TOKEN
from sluice.config import Auth
from tests.extproc.auth.tokens import (
    EC,
    ED,
    ISSUER,
    LEEWAY,
    NOW,
    OTHER_RSA,
    RSA,
    SECRET,
    claims,
    ec_jwk,
    ed_jwk,
    encoded,
    forged,
    identify,
    issuer,
    key_set,
    make_authenticator,
    rsa_jwk,
    secret_jwk,
    token,
)

SIGNED_BY = {
    "RS256": (RSA, rsa_jwk),
    "PS384": (RSA, rsa_jwk),
    "ES256": (EC, ec_jwk),
    "EdDSA": (ED, ed_jwk),
    "HS256": (SECRET, secret_jwk),
}


@pytest.mark.parametrize("algorithm", SIGNED_BY)
def test_a_valid_token_of_an_allowed_algorithm_is_accepted(algorithm: str) -> None:
    key, jwk = SIGNED_BY[algorithm]
    authenticator = make_authenticator(issuer(algorithms=[algorithm], jwks=key_set(jwk(kid="one"))))
    identity = identify(authenticator, token(claims(group=["vip", "staff"]), key, algorithm))
    assert (identity.subject, identity.source) == ("alice", ISSUER)
    assert identity.groups == {"vip", "staff"}
    assert not identity.anonymous


def test_an_algorithm_that_the_issuer_does_not_allow_is_refused() -> None:
    authenticator = make_authenticator(issuer(algorithms=["RS256"]))
    with pytest.raises(CredentialsError, match="algorithm"):
        identify(authenticator, token(algorithm="RS512"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 0, ["RS256"], {}])
def test_a_token_without_a_signature_is_refused(algorithm: object) -> None:
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), forged({"alg": algorithm, "kid": "one"}, claims()))


@pytest.mark.parametrize("encoding", ["pem", "der", "jwk"])
def test_a_public_key_is_not_accepted_as_an_hmac_secret(encoding: str) -> None:
    """In every encoding that a verifier might use as the secret."""
    public = RSA.public_key()
    forms = {
        "pem": public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "der": public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "jwk": json.dumps(rsa_jwk(kid="one")).encode(),
    }
    confused = forged({"alg": "HS256", "kid": "one"}, claims(), forms[encoding])
    keys = key_set(rsa_jwk(kid="one"))
    for algorithms in (["RS256"], ["HS256"]):
        with pytest.raises(CredentialsError):
            identify(make_authenticator(issuer(algorithms=algorithms, jwks=keys)), confused)


def test_a_key_with_alg_verifies_only_this_algorithm() -> None:
    keys = key_set(rsa_jwk(kid="one", alg="RS512"))
    authenticator = make_authenticator(issuer(algorithms=["RS256", "RS512"], jwks=keys))
    assert identify(authenticator, token(algorithm="RS512")).subject == "alice"
    with pytest.raises(CredentialsError):
        identify(authenticator, token(algorithm="RS256"))


def test_an_encryption_key_verifies_nothing() -> None:
    keys = key_set(rsa_jwk(kid="one", use="enc"), rsa_jwk(OTHER_RSA, kid="two"))
    with pytest.raises(CredentialsError):
        identify(make_authenticator(issuer(jwks=keys)), token())


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "somebody-else"},
        {"aud": ["a", "b"]},
        {"aud": None},
        {"aud": 7},
        {"aud": []},
        {"iss": "https://nobody.test"},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": [NOW]},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"nbf": "later"},
        {"nbf": 10**400},
        {"iat": {}},
    ],
    ids=str,
)
def test_a_token_with_an_invalid_claim_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), token(claims(**changes)))


def test_a_list_of_issuers_is_refused() -> None:
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), forged({"alg": "RS256"}, claims(iss=[ISSUER])))


def test_one_matching_audience_is_enough() -> None:
    authenticator = make_authenticator(issuer(audiences=["a", "b"]))
    assert identify(authenticator, token(claims(aud=["z", "b"]))).subject == "alice"


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({"exp": NOW - LEEWAY + 1}, True),
        ({"exp": NOW - LEEWAY}, False),
        ({"exp": NOW - LEEWAY - 1}, False),
        ({"nbf": NOW + LEEWAY}, True),
        ({"nbf": NOW + LEEWAY + 1}, False),
        ({"iat": NOW + LEEWAY + 1}, True),
    ],
    ids=str,
)
def test_the_leeway_bounds_the_difference_of_clocks(
    changes: dict[str, object], valid: bool
) -> None:
    authenticator, presented = make_authenticator(), token(claims(**changes))
    if valid:
        assert identify(authenticator, presented).subject == "alice"
    else:
        with pytest.raises(CredentialsError):
            identify(authenticator, presented)


@given(
    lifetime=st.integers(0, 100_000), leeway=st.integers(0, 600), seconds=st.integers(0, 200_000)
)
def test_a_token_is_valid_until_exp_plus_leeway_whether_or_not_it_is_cached(
    lifetime: int, leeway: int, seconds: int
) -> None:
    """The token is presented again after some seconds, with a cache and without one."""
    presented = token(claims(exp=int(NOW) + lifetime), SECRET, "HS256")
    keys = key_set(secret_jwk(kid="one"))
    settings = issuer(algorithms=["HS256"], jwks=keys, leeway=leeway)
    for entries in (0, 10):
        authenticator = make_authenticator(settings, token_cache_entries=entries)
        if lifetime + leeway > 0:
            identify(authenticator, presented)
        if seconds < lifetime + leeway:
            assert identify(authenticator, presented, NOW + seconds).subject == "alice"
        else:
            with pytest.raises(CredentialsError):
                identify(authenticator, presented, NOW + seconds)


def test_a_token_with_crit_is_refused() -> None:
    for extension in ({"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": True}, {"crit": []}):
        with pytest.raises(CredentialsError):
            identify(make_authenticator(), token(**extension))


def test_keys_in_the_header_of_a_token_are_ignored() -> None:
    stranger = rsa_jwk(OTHER_RSA, kid="one")
    for header in ({"jwk": stranger}, {"jku": "http://127.0.0.1:1/keys"}, {"x5c": ["AAAA"]}):
        with pytest.raises(CredentialsError, match="signature"):
            identify(make_authenticator(), token(key=OTHER_RSA, **header))


def test_a_token_that_is_too_long_is_refused() -> None:
    with pytest.raises(CredentialsError, match="longer"):
        identify(make_authenticator(), token(claims(padding="x" * MAX_TOKEN)))


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("damage", ["", "!", "ä", "=", "e30", "AAAA"])
def test_a_damaged_token_is_refused(part: int, damage: str) -> None:
    parts = token().split(".")
    parts[part] = damage
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), ".".join(parts))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(credentials: bytes) -> None:
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), credentials)


_MEMBERS = st.sampled_from(["alg", "kid", "typ"])
_CLAIMS = st.sampled_from(["iss", "aud", "exp"])


@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["RS256", "one"]),
        lambda inner: st.lists(inner) | st.dictionaries(_MEMBERS, inner),
    ),
    payload=st.recursive(
        st.none() | st.floats() | st.text() | st.sampled_from([ISSUER, "sluice", "alice"]),
        lambda inner: st.lists(inner) | st.dictionaries(_CLAIMS, inner),
    ),
)
def test_an_unsigned_token_with_arbitrary_json_is_refused(header: object, payload: object) -> None:
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), forged(header, payload))


def test_deeply_nested_json_is_refused() -> None:
    deep = encoded(b"[" * 3000)
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), f"{deep}.{deep}.{encoded(b'x')}")


@pytest.mark.parametrize("subject", ["\ud800", "a\udfffb"])
def test_a_subject_with_a_lone_surrogate_is_refused(subject: str) -> None:
    """JSON can contain a lone surrogate. A header cannot."""
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), token(claims(sub=subject)))


def test_only_the_key_with_the_tokens_kid_verifies() -> None:
    keys = key_set(rsa_jwk(kid="one"), rsa_jwk(OTHER_RSA, kid="two"))
    authenticator = make_authenticator(issuer(jwks=keys))
    assert identify(authenticator, token(key=OTHER_RSA, kid="two")).subject == "alice"
    with pytest.raises(CredentialsError, match="signature"):
        identify(authenticator, token(key=RSA, kid="two"))


def test_without_kid_every_key_of_the_algorithm_is_tried() -> None:
    keys = key_set(rsa_jwk(OTHER_RSA, kid="two"), rsa_jwk(kid="one"), secret_jwk(kid="three"))
    assert identify(make_authenticator(issuer(jwks=keys)), token(kid=None)).subject == "alice"


def test_an_empty_kid_names_no_key() -> None:
    """As in Envoy, which verifies tokens of native routes."""
    keys = key_set(rsa_jwk(OTHER_RSA, kid="two"), rsa_jwk(kid="one"))
    assert identify(make_authenticator(issuer(jwks=keys)), token(kid="")).subject == "alice"
    unnamed = make_authenticator(issuer(jwks=key_set(rsa_jwk(kid=""))))
    assert identify(unnamed, token(kid="one")).subject == "alice"


def test_the_error_for_an_unknown_key_names_the_issuer() -> None:
    with pytest.raises(UnknownKeyError) as refused:
        identify(make_authenticator(), token(kid="next"))
    assert refused.value.issuer == ISSUER


def test_a_key_verifies_only_tokens_of_its_issuer() -> None:
    other = "https://other.test"
    authenticator = make_authenticator(
        issuer(), issuer(issuer=other, jwks=key_set(rsa_jwk(OTHER_RSA, kid="one")))
    )
    assert identify(authenticator, token(claims(iss=other), OTHER_RSA)).source == other
    with pytest.raises(CredentialsError):
        identify(authenticator, token(claims(iss=other), RSA))


def test_subject_and_groups_come_from_the_configured_claims() -> None:
    authenticator = make_authenticator(issuer(subject_claim="email", group_claim="roles"))
    identity = identify(authenticator, token(claims(email="a@b.test", roles="admin")))
    assert (identity.subject, identity.groups) == ("a@b.test", {"admin"})


@pytest.mark.parametrize("path", ["realm_access.roles", "/realm_access/roles"])
def test_subject_and_groups_may_be_nested(path: str) -> None:
    authenticator = make_authenticator(issuer(subject_claim="user.id", group_claim=path))
    nested = claims(user={"id": "u1"}, realm_access={"roles": ["vip", "staff"]})
    identity = identify(authenticator, token(nested))
    assert (identity.subject, identity.groups) == ("u1", {"vip", "staff"})


@pytest.mark.parametrize("groups", [None, {"a": 1}, [None, ["a"], {}], []])
def test_a_group_claim_of_another_type_gives_no_group(groups: Any) -> None:
    assert identify(make_authenticator(), token(claims(group=groups))).groups == frozenset()


def test_replaced_keys_empty_the_cache_of_verified_tokens() -> None:
    from sluice.keys.key_set import KeySet

    authenticator = make_authenticator()
    presented = token()
    assert identify(authenticator, presented).subject == "alice"
    authenticator.replace_keys(ISSUER, KeySet.parse(key_set(rsa_jwk(OTHER_RSA, kid="one"))), NOW)
    with pytest.raises(CredentialsError):
        identify(authenticator, presented)


def test_the_cache_of_verified_tokens_is_bounded() -> None:
    authenticator = make_authenticator(token_cache_entries=3)
    tokens = [token(claims(sub=f"user-{number}")) for number in range(10)]
    for presented in (*tokens, *tokens[-3:]):
        identify(authenticator, presented)
    assert (authenticator.misses, authenticator.hits) == (10, 3)
    for presented in tokens[:-3]:
        identify(authenticator, presented)
    assert (authenticator.misses, authenticator.hits) == (17, 3)


def test_a_long_token_is_verified_for_each_request() -> None:
    authenticator = make_authenticator()
    presented = token(claims(padding="x" * MAX_CACHED_TOKEN))
    for _ in range(2):
        assert identify(authenticator, presented).subject == "alice"
    assert (authenticator.misses, authenticator.hits) == (2, 0)


@pytest.mark.parametrize(
    "spelling",
    ["bearer {}", "BEARER {}", "Bearer  {}", f"Bearer {' ' * 9000}{{}}", "Bearer {} "],
    ids=["lower", "upper", "two blanks", "many blanks", "blank at the end"],
)
def test_a_token_is_cached_once_for_all_spellings_of_the_header(spelling: str) -> None:
    """Otherwise one token could fill the cache, with keys of any length."""
    authenticator, presented = make_authenticator(), token()
    for header in (f"Bearer {presented}", spelling.format(presented)):
        assert authenticator.identify({"authorization": header.encode()}, NOW).subject == "alice"
    assert (authenticator.misses, authenticator.hits) == (1, 1)


@pytest.mark.parametrize("padding", ["=", "==", "====", "\n", "\t", "!", "+", "/", "\u0661"])
@pytest.mark.parametrize("at", [10, -10, -1])
def test_only_one_spelling_of_base64_is_accepted(padding: str, at: int) -> None:
    presented = token()
    spelled = presented[:at] + padding + presented[at:]
    with pytest.raises(CredentialsError):
        identify(make_authenticator(), spelled)


@pytest.mark.parametrize("padding", ["=", "=="])
def test_padding_after_the_signature_is_refused(padding: str) -> None:
    with pytest.raises(CredentialsError, match="malformed"):
        identify(make_authenticator(), token() + padding)


def test_without_issuers_every_token_is_refused() -> None:
    from extproc.auth import Authenticator

    with pytest.raises(CredentialsError, match="issuer"):
        identify(Authenticator(Auth()), token())
