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
    one,
    policy,
    refused,
    request,
)

UNAUTHENTICATED = (401, Reason.UNAUTHENTICATED)
INVALID = (401, Reason.INVALID_CREDENTIALS)
FORBIDDEN = (403, Reason.FORBIDDEN)


def challenge(decision: object) -> str:
    assert isinstance(decision, Refusal)
    return dict(decision.headers)["www-authenticate"]


def test_without_credentials_only_public_models_answer() -> None:
    by = policy({"m": {"access": {}}, "n": {}})
    assert refused(by, request()) == UNAUTHENTICATED
    assert admitted(by, request("/v2/models/n/infer")).subject == ""


def test_the_challenge_says_how_to_authenticate_and_what_was_wrong() -> None:
    by = one(access={})
    assert challenge(decide(by, request())) == 'Bearer realm="sluice"'
    bad = decide(by, request(authorization="Bearer x.y.z"))
    assert challenge(bad) == 'Bearer realm="sluice", error="invalid_token"'


def test_bad_credentials_are_refused_at_a_public_model_too() -> None:
    assert refused(one(), request(authorization=bearer(aud="other"))) == INVALID
    assert refused(one(), request(x_api_key="guess")) == INVALID


def test_a_caller_with_a_good_token_is_admitted_by_name() -> None:
    assert admitted(one(access={}), request(authorization=bearer())).subject == "alice"


@pytest.mark.parametrize(
    ("rules", "claims", "good"),
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
        ([{"claims": {"staff": "true"}}], {"staff": True}, True),
        ([{"claims": {"staff": "1"}}], {"staff": True}, False),
        ([{"claims": {"a": "1", "b": "2"}}], {"a": "1"}, False),
        ([{"groups": ["vip"], "subjects": ["bob"]}], {"group": "vip"}, False),
        ([{"groups": ["vip"], "subjects": ["alice"]}], {"group": "vip"}, True),
        ([{"subjects": ["bob"]}, {"groups": ["vip"]}], {"group": "vip"}, True),
    ],
    ids=str,
)
def test_a_rule_admits_whoever_meets_all_of_it_and_any_rule_is_enough(
    rules: list[dict[str, Any]], claims: dict[str, Any], good: bool
) -> None:
    by = one(access={"allow": rules})
    asked = request(authorization=bearer(**claims))
    if good:
        assert admitted(by, asked)
    else:
        assert refused(by, asked) == FORBIDDEN


def test_an_api_key_has_the_groups_and_claims_of_its_entry() -> None:
    key = {"name": "batch", "sha256": hashlib.sha256(b"k1").hexdigest(), "groups": ["vip"]}
    by = policy({"m": {"access": {"allow": [{"groups": ["vip"]}]}}}, auth={"api_keys": [key]})
    assert admitted(by, request(x_api_key="k1")).subject == "batch"
    assert refused(by, request(x_api_key="k2")) == INVALID


def test_an_unknown_key_says_whose_keys_to_fetch() -> None:
    by = one(access={})
    decision = decide(by, request(authorization=bearer()))
    assert not isinstance(decision, Refusal)
    other = compile_policy(document(auth={"issuers": [issuer(jwks=key_set(rsa_jwk(kid="two")))]}))
    decision = decide(other, request(authorization=bearer()))
    assert isinstance(decision, Refusal)
    assert decision.unknown_key_issuer == ISSUER


def test_tokens_stay_verified_over_a_new_policy_but_not_over_new_keys() -> None:
    first = compile_policy(document())
    edited = compile_policy(document({"m": {}, "n": {}}), first)
    assert edited.authenticator is first.authenticator
    rotated = document(auth={"issuers": [issuer(jwks=key_set(rsa_jwk(kid="two")))]})
    assert compile_policy(rotated, edited).authenticator is not first.authenticator


def test_a_policy_with_keys_that_cannot_be_read_does_not_compile() -> None:
    with pytest.raises(ValueError, match="key"):
        policy(auth={"issuers": [issuer(jwks="{}")]})
