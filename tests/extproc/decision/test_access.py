"""Tests of authenticate and authorize: who may use which model."""

import hashlib
from typing import Any

import pytest

from extproc.decision import Reason, Refusal, decide
from extproc.policy.compiled import compile_policy
from tests.extproc.auth.tokens import ISSUER, issuer, key_set, rsa_jwk
from tests.extproc.decision.requests import (
    admitted,
    bearer,
    document,
    make_policy,
    make_request,
    policy_with,
    refused,
)

UNAUTHENTICATED = (401, Reason.UNAUTHENTICATED)
INVALID = (401, Reason.INVALID_CREDENTIALS)
FORBIDDEN = (403, Reason.FORBIDDEN)


def challenge(decision: object) -> str:
    assert isinstance(decision, Refusal)
    return dict(decision.headers)["www-authenticate"]


def test_a_caller_without_credentials_may_use_only_public_models() -> None:
    policy = make_policy({"m": {"access": {}}, "n": {}})
    assert refused(policy, make_request()) == UNAUTHENTICATED
    assert admitted(policy, make_request("/v2/models/n/infer")).subject == ""


def test_the_challenge_names_the_scheme_and_the_error() -> None:
    policy = policy_with(access={})
    assert challenge(decide(policy, make_request())) == 'Bearer realm="sluice"'
    bad = decide(policy, make_request(authorization="Bearer x.y.z"))
    assert challenge(bad) == 'Bearer realm="sluice", error="invalid_token"'


def test_the_challenge_says_that_a_token_has_expired() -> None:
    expired = decide(policy_with(), make_request(authorization=bearer(exp=1)))
    assert challenge(expired).endswith(', error_description="the token has expired"')


def test_a_token_that_cannot_be_checked_is_not_called_invalid() -> None:
    remote = issuer(jwks_uri="https://issuer.test/keys")
    policy = make_policy(auth={"issuers": [remote]})
    refusal = decide(policy, make_request(authorization=bearer()))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.reason) == (503, Reason.KEY_SET_UNAVAILABLE)
    assert (refusal.cause, refusal.unknown_key_issuer) == ("key_set_unavailable", ISSUER)
    assert [name for name, _ in refusal.headers] == ["retry-after"]


def test_a_public_model_refuses_invalid_credentials() -> None:
    assert refused(policy_with(), make_request(authorization=bearer(aud="other"))) == INVALID
    assert refused(policy_with(), make_request(x_api_key="guess")) == INVALID


def test_the_subject_of_a_valid_token_is_admitted() -> None:
    assert admitted(policy_with(access={}), make_request(authorization=bearer())).subject == "alice"


@pytest.mark.parametrize(
    ("rules", "claims", "admits"),
    [
        ([{"groups": ["vip"]}], {"group": "vip"}, True),
        ([{"groups": ["vip"]}], {"group": ["x", "vip"]}, True),
        ([{"groups": ["vip"]}], {"group": "VIP"}, False),
        ([{"groups": ["vip"]}], {}, False),
        ([{"subjects": ["alice"]}], {}, True),
        ([{"subjects": ["alice"]}], {"sub": "bob", "group": "alice"}, False),
        ([{"claims": {"tier": "gold"}}], {"tier": "gold"}, True),
        ([{"claims": {"tier": "gold"}}], {"tier": ["silver", "gold"]}, True),
        ([{"claims": {"tier": "gold"}}], {"tier": "golden"}, False),
        ([{"claims": {"age": "7"}}], {"age": 7}, True),
        ([{"claims": {"age": "7"}}], {"age": [7]}, True),
        ([{"claims": {"age": "7"}}], {"age": 7.0}, True),
        ([{"claims": {"scope": "infer"}}], {"scope": "read infer"}, True),
        ([{"claims": {"scope": "infer"}}], {"scope": "read infer:all"}, False),
        ([{"claims": {"scp": "infer"}}], {"scp": "read infer"}, True),
        ([{"groups": ["admin"]}], {"group": "vip admin"}, False),
        ([{"groups": ["vip admin"]}], {"group": "vip admin"}, True),
        ([{"claims": {"team": "admin"}}], {"team": "vip admin"}, False),
        ([{"groups": ["7"]}], {"group": [7]}, True),
        ([{"claims": {"realm_access.roles": "vip"}}], {"realm_access": {"roles": ["vip"]}}, True),
        ([{"claims": {"realm_access.roles": "vip"}}], {"realm_access": ["vip"]}, False),
        ([{"claims": {"realm_access": "vip"}}], {"realm_access": {"roles": ["vip"]}}, False),
        ([{"claims": {"https://a.b/r": "vip"}}], {"https://a.b/r": "vip"}, True),
        ([{"claims": {"a.b": "vip"}}], {"a.b": "other", "a": {"b": "vip"}}, False),
        ([{"claims": {"/a/b.c": "vip"}}], {"a": {"b.c": "vip"}}, True),
        ([{"claims": {"staff": "true"}}], {"staff": True}, True),
        ([{"claims": {"staff": "1"}}], {"staff": True}, False),
        ([{"claims": {"a": "1", "b": "2"}}], {"a": "1"}, False),
        ([{"groups": ["vip"], "subjects": ["bob"]}], {"group": "vip"}, False),
        ([{"groups": ["vip"], "subjects": ["alice"]}], {"group": "vip"}, True),
        ([{"subjects": ["bob"]}, {"groups": ["vip"]}], {"group": "vip"}, True),
    ],
    ids=str,
)
def test_a_caller_must_meet_all_conditions_of_at_least_one_rule(
    rules: list[dict[str, Any]], claims: dict[str, Any], admits: bool
) -> None:
    policy = policy_with(access={"allow": rules})
    request = make_request(authorization=bearer(**claims))
    if admits:
        assert admitted(policy, request)
    else:
        assert refused(policy, request) == FORBIDDEN


def test_the_config_of_an_api_key_gives_its_groups() -> None:
    key = {"name": "batch", "sha256": hashlib.sha256(b"k1").hexdigest(), "groups": ["vip"]}
    policy = make_policy(
        {"m": {"access": {"allow": [{"groups": ["vip"]}]}}}, auth={"api_keys": [key]}
    )
    assert admitted(policy, make_request(x_api_key="k1")).subject == "batch"
    assert refused(policy, make_request(x_api_key="k2")) == INVALID


def test_the_refusal_of_an_unknown_key_names_the_issuer() -> None:
    policy = policy_with(access={})
    decision = decide(policy, make_request(authorization=bearer()))
    assert not isinstance(decision, Refusal)
    other = compile_policy(document(auth={"issuers": [issuer(jwks=key_set(rsa_jwk(kid="two")))]}))
    decision = decide(other, make_request(authorization=bearer()))
    assert isinstance(decision, Refusal)
    assert decision.unknown_key_issuer == ISSUER


def test_a_new_policy_keeps_the_authenticator_unless_auth_has_changed() -> None:
    first = compile_policy(document())
    edited = compile_policy(document({"m": {}, "n": {}}), first)
    assert edited.authenticator is first.authenticator
    rotated = document(auth={"issuers": [issuer(jwks=key_set(rsa_jwk(kid="two")))]})
    assert compile_policy(rotated, edited).authenticator is not first.authenticator


def test_a_policy_with_an_invalid_key_set_does_not_compile() -> None:
    with pytest.raises(ValueError, match="key"):
        make_policy(auth={"issuers": [issuer(jwks="{}")]})
