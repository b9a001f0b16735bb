"""API keys, and which credentials count when there are several."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth import ANONYMOUS, CredentialsError
from tests.extproc.auth.tokens import NOW, authenticator, token

KEY = b"sk-0123456789abcdef"


def entry(**settings: object) -> dict[str, object]:
    return {"name": "batch", "sha256": hashlib.sha256(KEY).hexdigest(), **settings}


def test_a_known_key_gives_the_identity_that_is_configured_for_it() -> None:
    who = authenticator(api_keys=[entry(groups=["vip"], claims={"tier": "gold"})])
    identity = who.identify({"x-api-key": KEY}, NOW)
    assert (identity.subject, identity.groups) == ("batch", {"vip"})
    assert identity.claim_values("tier") == ("gold",)


@given(st.binary(max_size=600).filter(lambda key: key != KEY))
def test_any_other_key_is_refused(key: bytes) -> None:
    with pytest.raises(CredentialsError):
        authenticator(api_keys=[entry()]).identify({"x-api-key": key}, NOW)


def test_the_stored_hash_is_no_key() -> None:
    who = authenticator(api_keys=[entry()])
    with pytest.raises(CredentialsError):
        who.identify({"x-api-key": hashlib.sha256(KEY).hexdigest().encode()}, NOW)


def test_the_header_is_the_configured_one() -> None:
    who = authenticator(api_keys=[entry()], api_key_header="x-key")
    assert who.identify({"x-key": KEY}, NOW).subject == "batch"
    assert who.identify({"x-api-key": KEY}, NOW) is ANONYMOUS


def test_a_token_and_a_key_at_once_are_refused_even_if_both_are_good() -> None:
    headers = {"x-api-key": KEY, "authorization": f"Bearer {token()}".encode()}
    with pytest.raises(CredentialsError, match="not both"):
        authenticator(api_keys=[entry()]).identify(headers, NOW)


def test_without_credentials_the_caller_is_anonymous() -> None:
    assert authenticator().identify({}, NOW) is ANONYMOUS


@pytest.mark.parametrize("scheme", ["Basic", "", "Token", "Bearer,"])
def test_another_scheme_than_bearer_is_refused(scheme: str) -> None:
    with pytest.raises(CredentialsError):
        authenticator().identify({"authorization": f"{scheme} {token()}".encode()}, NOW)


def test_the_scheme_is_not_case_sensitive() -> None:
    headers = {"authorization": f"bEARER {token()}".encode()}
    assert authenticator().identify(headers, NOW).subject == "alice"


def test_a_second_authorization_header_spoils_the_first() -> None:
    good = f"Bearer {token()}"
    with pytest.raises(CredentialsError):
        authenticator().identify({"authorization": f"{good}, {good}".encode()}, NOW)
