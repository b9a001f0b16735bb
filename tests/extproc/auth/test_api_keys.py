"""Tests of API keys, and of requests with several credentials."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth import ANONYMOUS, CredentialsError
from tests.extproc.auth.tokens import NOW, make_authenticator, token

KEY = b"sk-0123456789abcdef"


def entry(**settings: object) -> dict[str, object]:
    return {"name": "batch", "sha256": hashlib.sha256(KEY).hexdigest(), **settings}


def test_an_api_key_gives_the_configured_identity() -> None:
    authenticator = make_authenticator(api_keys=[entry(groups=["vip"], claims={"tier": "gold"})])
    identity = authenticator.identify({"x-api-key": KEY}, NOW)
    assert (identity.subject, identity.groups) == ("batch", {"vip"})
    assert identity.claim_values("tier") == {"gold"}


@given(st.binary(max_size=600).filter(lambda key: key != KEY))
def test_any_other_key_is_refused(key: bytes) -> None:
    with pytest.raises(CredentialsError):
        make_authenticator(api_keys=[entry()]).identify({"x-api-key": key}, NOW)


def test_the_stored_hash_is_not_accepted_as_a_key() -> None:
    authenticator = make_authenticator(api_keys=[entry()])
    with pytest.raises(CredentialsError):
        authenticator.identify({"x-api-key": hashlib.sha256(KEY).hexdigest().encode()}, NOW)


def test_the_api_key_is_read_from_the_configured_header() -> None:
    authenticator = make_authenticator(api_keys=[entry()], api_key_header="x-key")
    assert authenticator.identify({"x-key": KEY}, NOW).subject == "batch"
    assert authenticator.identify({"x-api-key": KEY}, NOW) is ANONYMOUS


def test_a_token_together_with_an_api_key_is_refused() -> None:
    headers = {"x-api-key": KEY, "authorization": f"Bearer {token()}".encode()}
    with pytest.raises(CredentialsError, match="not both"):
        make_authenticator(api_keys=[entry()]).identify(headers, NOW)


def test_without_credentials_the_caller_is_anonymous() -> None:
    assert make_authenticator().identify({}, NOW) is ANONYMOUS


@pytest.mark.parametrize("scheme", ["Basic", "", "Token", "Bearer,"])
def test_only_the_scheme_bearer_is_accepted(scheme: str) -> None:
    with pytest.raises(CredentialsError):
        make_authenticator().identify({"authorization": f"{scheme} {token()}".encode()}, NOW)


def test_the_scheme_is_not_case_sensitive() -> None:
    headers = {"authorization": f"bEARER {token()}".encode()}
    assert make_authenticator().identify(headers, NOW).subject == "alice"


def test_two_authorization_headers_are_refused() -> None:
    valid = f"Bearer {token()}"
    with pytest.raises(CredentialsError):
        make_authenticator().identify({"authorization": f"{valid}, {valid}".encode()}, NOW)
