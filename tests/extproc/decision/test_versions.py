"""Tests of route and canary: which version a request goes to."""

from collections import Counter
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from extproc.decision import Reason, Refusal, decide
from extproc.policy.compiled import Policy
from sluice.config.buckets import bucket_of
from tests.extproc.decision.requests import (
    admitted,
    bearer,
    make_policy,
    make_request,
    policy_with,
    refused,
    version,
)

USERS = [f"user-{number}" for number in range(10_000)]


def canaried(*canaries: dict[str, Any], **settings: Any) -> Policy:
    listed = [{"version": f"v{n}", **canary} for n, canary in enumerate(canaries, 2)]
    return policy_with(canaries=listed, **{"bucket": {"header": "x-user"}, **settings})


def test_the_stable_version_is_the_default() -> None:
    decision = admitted(policy_with(), make_request())
    assert (decision.target.version, decision.reason) == ("v1", Reason.STABLE)
    assert decision.target.cluster == "m/v1"
    assert not decision.canary


def test_the_header_or_the_path_chooses_the_version() -> None:
    by_header = admitted(policy_with(), make_request(x_model_version="v2"))
    assert (by_header.target.version, by_header.reason) == ("v2", Reason.VERSION_HEADER)
    by_path = admitted(policy_with(), make_request("/v2/models/m/versions/v3/infer"))
    assert (by_path.target.version, by_path.reason) == ("v3", Reason.VERSION_PATH)


def test_header_and_path_must_name_the_same_version() -> None:
    path = "/v2/models/m/versions/v2/infer"
    assert version(policy_with(), make_request(path, x_model_version="v2")) == "v2"
    assert refused(policy_with(), make_request(path, x_model_version="v3")) == (
        400,
        Reason.MALFORMED_REQUEST,
    )


@pytest.mark.parametrize("name", ["v9", "", "V2", "v2 ", "v2, v2", "v1/../v2", "stable"])
def test_an_unknown_version_is_not_found(name: str) -> None:
    assert refused(policy_with(), make_request(x_model_version=name)) == (
        404,
        Reason.UNKNOWN_VERSION,
    )


def test_the_refusal_of_a_version_names_those_that_exist() -> None:
    decision = decide(policy_with(), make_request(x_model_version="v9\x1b" + "x" * 500))
    assert isinstance(decision, Refusal)
    assert decision.detail.startswith("model m has no version 'v9")
    assert decision.detail.endswith("'; it has v1, v2, v3")
    assert len(decision.detail) < 200
    assert decision.detail.isprintable()


@pytest.mark.parametrize("rest", ["versions/", "versions/v9/infer", "versions//infer"])
def test_an_unknown_version_in_the_path_is_not_found(rest: str) -> None:
    request = make_request(f"/v2/models/m/{rest}", "GET" if rest == "versions/" else "POST")
    assert refused(policy_with(), request) == (404, Reason.UNKNOWN_VERSION)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"group": "vip"}, "v2"),
        ({"group": ["a", "vip"]}, "v2"),
        ({"group": "vipers"}, "v1"),
        ({"plan": "beta-7"}, "v3"),
        ({"plan": ["x", "beta"]}, "v3"),
        ({"plan": "alphabeta"}, "v1"),
        ({"group": "vip", "plan": "beta"}, "v2"),
        ({}, "v1"),
    ],
    ids=str,
)
def test_the_first_matching_claim_rule_chooses_the_version(
    claims: dict[str, Any], expected: str
) -> None:
    rules = [
        {"claim": "group", "value": "vip", "version": "v2"},
        {"claim": "plan", "match": "prefix", "value": "beta", "version": "v3"},
    ]
    assert (
        version(policy_with(claim_rules=rules), make_request(authorization=bearer(**claims)))
        == expected
    )


def test_an_explicit_version_precedes_claim_rules_and_both_precede_canaries() -> None:
    policy = canaried(
        {}, {"percent": 100}, claim_rules=[{"claim": "group", "value": "vip", "version": "v2"}]
    )
    vip = {"authorization": bearer(group="vip"), "x_user": "1"}
    assert version(policy, make_request(**vip)) == "v2"
    assert version(policy, make_request(x_model_version="v1", **vip)) == "v1"
    assert version(policy, make_request("/v2/models/m/versions/v1/infer", **vip)) == "v1"
    assert version(policy, make_request(authorization=bearer(), x_user="1")) == "v3"


def test_a_header_match_chooses_the_canary() -> None:
    policy = canaried(
        {"headers": [{"name": "x-canary", "value": "true"}, {"name": "x-b", "value": "1"}]}
    )
    decision = admitted(policy, make_request(x_canary="true"))
    assert (decision.target.version, decision.reason) == ("v2", Reason.CANARY_HEADER)
    assert decision.canary
    assert version(policy, make_request(x_b="1")) == "v2"
    for value in ("false", "TRUE", "true, true", ""):
        assert version(policy, make_request(x_canary=value)) == "v1"


def test_a_model_type_chooses_the_canary() -> None:
    policy = canaried({"model_types": ["image-classification"]})
    decision = admitted(policy, make_request(x_model_type="image-classification"))
    assert (decision.target.version, decision.reason) == ("v2", Reason.CANARY_MODEL_TYPE)
    assert version(policy, make_request(x_model_type="text")) == "v1"


def test_ten_percent_of_users_reach_a_canary_of_ten_percent() -> None:
    policy = canaried({"percent": 10})
    found = Counter(version(policy, make_request(x_user=user)) for user in USERS)
    assert 900 <= found["v2"] <= 1100
    assert admitted(policy, make_request(x_user=USERS[0])).reason in (
        Reason.STABLE,
        Reason.CANARY_BUCKET,
    )


@given(
    user=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    percents=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).map(sorted),
)
def test_a_canary_keeps_its_users_when_its_percentage_grows(user: str, percents: list[int]) -> None:
    small, large = (canaried({"percent": hundredths / 100}) for hundredths in percents)
    request = make_request(x_user=user)
    assert version(small, request) == version(small, request)
    if version(small, request) == "v2":
        assert version(large, request) == "v2"


@given(
    user=st.binary(min_size=1),
    shares=st.lists(st.integers(0, 5_000), min_size=2, max_size=2),
)
def test_buckets_match_envoys_weighted_clusters(user: bytes, shares: list[int]) -> None:
    """Envoy: xxHash64 with seed 0, modulo the total weight, through the clusters in order."""
    policy = canaried(*({"percent": share / 100} for share in shares))
    request = make_request()
    request = type(request)({**request.headers, "x-user": user}, True, request.now)
    point = xxhash.xxh64(user, seed=0).intdigest() % 10_000
    expected, end = "v1", 0
    for name, share in zip(("v2", "v3"), shares, strict=True):
        if end <= point < end + share:
            expected = name
        end += share
    assert version(policy, request) == expected


@pytest.mark.parametrize(
    ("text", "bucket"),
    [(b"", 0xEF46DB3751D8E999 % 10_000), (b"a", 0xD24EC4F1A98C6E5B % 10_000),
     (b"abc", 0x44BC2CF5AD770999 % 10_000)],
)  # fmt: skip
def test_the_hash_matches_the_reference_vectors_of_xxh64(text: bytes, bucket: int) -> None:
    """With another library, every user must stay in the same bucket."""
    assert bucket_of(text, "xxh64") == bucket


def test_without_a_bucket_header_the_subject_determines_the_bucket() -> None:
    policy = canaried({"percent": 50}, bucket={})
    same = {
        version(policy, make_request(authorization=bearer(sub="u1", jti=str(n)))) for n in range(5)
    }
    assert len(same) == 1
    assert version(policy, make_request(x_user="u1")) == "v1"
    every = canaried({"percent": 100}, bucket={})
    assert version(every, make_request(authorization=bearer())) == "v2"
    assert version(every, make_request()) == "v1"


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [("0", "v2"), ("9", "v2"), ("10", "v1"), ("99", "v1"), ("100", "v2"), ("1209", "v2"),
     ("0009", "v2"), ("-1", "v1"), ("+5", "v1"), ("5.0", "v1"), ("1_5", "v1"), ("five", "v1"),
     ("\u0665", "v1"), ("5" * 4000, "v1")],
)  # fmt: skip
def test_modulo_buckets_need_an_integer_id(identifier: str, expected: str) -> None:
    policy = canaried({"percent": 10}, bucket={"header": "x-user", "hash": "modulo"})
    assert version(policy, make_request(x_user=identifier)) == expected


def test_a_header_match_precedes_the_bucket_and_the_bucket_precedes_the_model_type() -> None:
    policy = canaried(
        {"headers": [{"name": "x-canary", "value": "two"}], "model_types": ["t"]},
        {"headers": [{"name": "x-canary", "value": "three"}], "percent": 100},
    )
    everything = {"x_user": "1", "x_model_type": "t"}
    assert version(policy, make_request(x_canary="two", **everything)) == "v2"
    assert version(policy, make_request(**everything)) == "v3"
    assert version(policy, make_request(x_model_type="t")) == "v2"


def test_canaries_of_other_models_are_ignored() -> None:
    policy = make_policy({"m": {"canaries": [{"version": "v2", "percent": 100}]}, "n": {}})
    request = make_request("/v2/models/n/infer", x_canary="true", authorization=bearer())
    assert version(policy, request) == "v1"
