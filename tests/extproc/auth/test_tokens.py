"""Which tokens are good, and that nothing else is."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth import CredentialsError, UnknownKeyError
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
    authenticator,
    claims,
    ec_jwk,
    ed_jwk,
    encoded,
    forged,
    identify,
    issuer,
    key_set,
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
def test_a_good_token_of_an_allowed_algorithm_names_its_subject(algorithm: str) -> None:
    key, jwk = SIGNED_BY[algorithm]
    who = authenticator(issuer(algorithms=[algorithm], jwks=key_set(jwk(kid="one"))))
    identity = identify(who, token(claims(group=["vip", "staff"]), key, algorithm))
    assert (identity.subject, identity.source) == ("alice", ISSUER)
    assert identity.groups == {"vip", "staff"}
    assert not identity.anonymous


def test_an_algorithm_that_the_issuer_does_not_allow_is_refused() -> None:
    who = authenticator(issuer(algorithms=["RS256"]))
    with pytest.raises(CredentialsError, match="algorithm"):
        identify(who, token(algorithm="RS512"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 0, ["RS256"], {}])
def test_a_token_without_a_signature_is_refused(algorithm: object) -> None:
    with pytest.raises(CredentialsError):
        identify(authenticator(), forged({"alg": algorithm, "kid": "one"}, claims()))


@pytest.mark.parametrize("encoding", ["pem", "der", "jwk"])
def test_the_public_key_is_no_shared_secret(encoding: str) -> None:
    """HS256 over what everybody knows, in every form that a careless verifier would take."""
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
            identify(authenticator(issuer(algorithms=algorithms, jwks=keys)), confused)


def test_a_key_verifies_only_the_algorithm_that_it_names() -> None:
    keys = key_set(rsa_jwk(kid="one", alg="RS512"))
    who = authenticator(issuer(algorithms=["RS256", "RS512"], jwks=keys))
    assert identify(who, token(algorithm="RS512")).subject == "alice"
    with pytest.raises(CredentialsError):
        identify(who, token(algorithm="RS256"))


def test_an_encryption_key_verifies_nothing() -> None:
    keys = key_set(rsa_jwk(kid="one", use="enc"), rsa_jwk(OTHER_RSA, kid="two"))
    with pytest.raises(CredentialsError):
        identify(authenticator(issuer(jwks=keys)), token())


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
def test_claims_that_are_not_as_they_should_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CredentialsError):
        identify(authenticator(), token(claims(**changes)))


def test_a_list_of_issuers_is_no_issuer() -> None:
    with pytest.raises(CredentialsError):
        identify(authenticator(), forged({"alg": "RS256"}, claims(iss=[ISSUER])))


def test_one_audience_of_several_is_enough() -> None:
    who = authenticator(issuer(audiences=["a", "b"]))
    assert identify(who, token(claims(aud=["z", "b"]))).subject == "alice"


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"exp": NOW - LEEWAY + 1}, True),
        ({"exp": NOW - LEEWAY}, False),
        ({"exp": NOW - LEEWAY - 1}, False),
        ({"nbf": NOW + LEEWAY}, True),
        ({"nbf": NOW + LEEWAY + 1}, False),
        ({"iat": NOW + LEEWAY}, True),
        ({"iat": NOW + LEEWAY + 1}, False),
    ],
    ids=str,
)
def test_clocks_may_differ_by_the_leeway_and_no_more(
    changes: dict[str, object], good: bool
) -> None:
    who, presented = authenticator(), token(claims(**changes))
    if good:
        assert identify(who, presented).subject == "alice"
    else:
        with pytest.raises(CredentialsError):
            identify(who, presented)


@given(lifetime=st.integers(0, 100_000), leeway=st.integers(0, 600), asked=st.integers(0, 200_000))
def test_a_token_is_good_until_exp_and_leeway_whether_it_is_remembered_or_not(
    lifetime: int, leeway: int, asked: int
) -> None:
    """The second asking, `asked` seconds later, meets a cache in one case and none in the other."""
    presented = token(claims(exp=int(NOW) + lifetime), SECRET, "HS256")
    keys = key_set(secret_jwk(kid="one"))
    of = issuer(algorithms=["HS256"], jwks=keys, leeway=leeway)
    for entries in (0, 10):
        who = authenticator(of, token_cache_entries=entries)
        if lifetime + leeway > 0:
            identify(who, presented)
        if asked < lifetime + leeway:
            assert identify(who, presented, NOW + asked).subject == "alice"
        else:
            with pytest.raises(CredentialsError):
                identify(who, presented, NOW + asked)


def test_a_critical_extension_is_refused_since_none_is_understood() -> None:
    for extension in ({"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": True}, {"crit": []}):
        with pytest.raises(CredentialsError):
            identify(authenticator(), token(**extension))


def test_keys_that_a_token_brings_along_are_not_looked_at() -> None:
    stranger = rsa_jwk(OTHER_RSA, kid="one")
    for header in ({"jwk": stranger}, {"jku": "http://127.0.0.1:1/keys"}, {"x5c": ["AAAA"]}):
        with pytest.raises(CredentialsError, match="signature"):
            identify(authenticator(), token(key=OTHER_RSA, **header))


def test_a_token_longer_than_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(CredentialsError, match="longer"):
        identify(authenticator(), token(claims(padding="x" * 8192)))


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("damage", ["", "!", "ä", "=", "e30", "AAAA"])
def test_a_damaged_token_is_refused(part: int, damage: str) -> None:
    parts = token().split(".")
    parts[part] = damage
    with pytest.raises(CredentialsError):
        identify(authenticator(), ".".join(parts))


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_anything_but_a_refusal(credentials: bytes) -> None:
    with pytest.raises(CredentialsError):
        identify(authenticator(), credentials)


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
def test_no_json_at_all_makes_an_unsigned_token_good(header: object, payload: object) -> None:
    with pytest.raises(CredentialsError):
        identify(authenticator(), forged(header, payload))


def test_json_nested_beyond_reason_is_refused() -> None:
    deep = encoded(b"[" * 3000)
    with pytest.raises(CredentialsError):
        identify(authenticator(), f"{deep}.{deep}.{encoded(b'x')}")


@pytest.mark.parametrize("subject", ["\ud800", "a\udfffb"])
def test_a_subject_that_is_no_text_is_refused(subject: str) -> None:
    """A lone surrogate passes as JSON, and could not be written into any header."""
    with pytest.raises(CredentialsError):
        identify(authenticator(), token(claims(sub=subject)))


def test_the_key_is_the_one_that_the_token_names() -> None:
    keys = key_set(rsa_jwk(kid="one"), rsa_jwk(OTHER_RSA, kid="two"))
    who = authenticator(issuer(jwks=keys))
    assert identify(who, token(key=OTHER_RSA, kid="two")).subject == "alice"
    with pytest.raises(CredentialsError, match="signature"):
        identify(who, token(key=RSA, kid="two"))


def test_without_a_name_every_fitting_key_is_tried() -> None:
    keys = key_set(rsa_jwk(OTHER_RSA, kid="two"), rsa_jwk(kid="one"), secret_jwk(kid="three"))
    assert identify(authenticator(issuer(jwks=keys)), token(kid=None)).subject == "alice"


def test_an_unknown_key_tells_whose_keys_to_fetch_again() -> None:
    with pytest.raises(UnknownKeyError) as refused:
        identify(authenticator(), token(kid="next"))
    assert refused.value.issuer == ISSUER


def test_each_issuer_is_trusted_with_its_own_keys_only() -> None:
    other = "https://other.test"
    who = authenticator(issuer(), issuer(issuer=other, jwks=key_set(rsa_jwk(OTHER_RSA, kid="one"))))
    assert identify(who, token(claims(iss=other), OTHER_RSA)).source == other
    with pytest.raises(CredentialsError):
        identify(who, token(claims(iss=other), RSA))


def test_subject_and_groups_come_from_the_claims_that_the_issuer_is_configured_with() -> None:
    who = authenticator(issuer(subject_claim="email", group_claim="roles"))
    identity = identify(who, token(claims(email="a@b.test", roles="admin")))
    assert (identity.subject, identity.groups) == ("a@b.test", {"admin"})


@pytest.mark.parametrize("groups", [None, 7, {"a": 1}, [7, None], True])
def test_a_group_claim_of_another_shape_gives_no_group(groups: Any) -> None:
    assert identify(authenticator(), token(claims(group=groups))).groups == frozenset()


def test_a_token_that_replaced_keys_no_longer_verify_is_forgotten() -> None:
    from sluice.keys.key_set import KeySet

    who = authenticator()
    presented = token()
    assert identify(who, presented).subject == "alice"
    who.replace_keys(ISSUER, KeySet.parse(key_set(rsa_jwk(OTHER_RSA, kid="one"))))
    with pytest.raises(CredentialsError):
        identify(who, presented)


def test_the_memory_of_verified_tokens_is_bounded() -> None:
    who = authenticator(token_cache_entries=3)
    for number in range(10):
        identify(who, token(claims(sub=f"user-{number}")))
    assert len(who._verified) == 3


@pytest.mark.parametrize(
    "spelling",
    ["bearer {}", "BEARER {}", "Bearer  {}", f"Bearer {' ' * 9000}{{}}", "Bearer {} "],
    ids=["lower", "upper", "two blanks", "many blanks", "blank at the end"],
)
def test_a_token_is_remembered_once_however_the_header_is_spelled(spelling: str) -> None:
    """Else one token alone could fill the memory, and with keys of any length."""
    who, presented = authenticator(), token()
    for header in (f"Bearer {presented}", spelling.format(presented)):
        assert who.identify({"authorization": header.encode()}, NOW).subject == "alice"
    assert list(who._verified) == [presented.encode()]


@pytest.mark.parametrize("padding", ["=", "==", "====", "\n", "\t", "!", "+", "/", "\u0661"])
@pytest.mark.parametrize("at", [10, -10, -1])
def test_base64_is_spelled_in_one_way(padding: str, at: int) -> None:
    presented = token()
    spelled = presented[:at] + padding + presented[at:]
    with pytest.raises(CredentialsError):
        identify(authenticator(), spelled)


@pytest.mark.parametrize("padding", ["=", "=="])
def test_padding_after_the_signature_is_refused(padding: str) -> None:
    with pytest.raises(CredentialsError, match="malformed"):
        identify(authenticator(), token() + padding)


def test_without_issuers_every_token_is_refused() -> None:
    from extproc.auth import Authenticator

    with pytest.raises(CredentialsError, match="issuer"):
        identify(Authenticator(Auth()), token())
