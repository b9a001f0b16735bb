"""Where requests are decided: the plan of a model, and the texts that Envoy can compare."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.config import GatewayConfig
from sluice.config.placement import MAX_WAYS, Plan, is_header_safe, is_plain, plans

ISSUER = {
    "issuer": "https://issuer.test",
    "audiences": ["a"],
    "algorithms": ["RS256"],
    "jwks_uri": "https://issuer.test/keys",
}
VERSIONS = {name: {"endpoints": [{"address": "127.0.0.1:9"}]} for name in ("v1", "v2")}
GRPC = {"v1": {**VERSIONS["v1"], "protocol": "grpc"}, "v2": VERSIONS["v2"]}

MANY_RULES = [{"value": str(number), "version": "v2"} for number in range(MAX_WAYS)]
OTHER_MODEL = {"part": "model", "values": ["other"]}


def plan_of(*, issuer: dict[str, Any] | None = None, **sections: Any) -> Plan:
    """The plan of a model with two versions."""
    auth = {"issuers": [{**ISSUER, **(issuer or {})}]}
    more = {key: sections.pop(key) for key in ("limits", "placement") if key in sections}
    model = {"stable": "v1", "versions": VERSIONS, **sections}
    config = GatewayConfig.model_validate({"auth": auth, **more, "models": {"m": model}})
    return plans(config)["m"]


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"placement": "callout"}, "placement: callout"),
        ({"issuer": {"leeway": 1.9}}, "leeway"),
        ({"issuer": {"subject_claim": "uid"}}, "subject_claim"),
        ({"issuer": {"group_claim": "realm.roles"}}, "group_claim"),
        ({"issuer": {"audiences": ["1.5"]}}, "audiences"),
        ({"issuer": {"algorithms": ["ES256"]}}, "algorithms"),
        ({"methods": ["GET", "HEAD"]}, "methods"),
        ({"limits": {"rules": [{"name": "all", "rate": 1}]}}, "limits.rules: all"),
        ({"access": {"allow": [{"claims": {"a.b": "x"}}]}}, "access.allow"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, "inputs, outputs"),
        ({"claim_rules": MANY_RULES}, "more than"),
    ],
    ids=str,
)  # fmt: skip
def test_a_model_that_envoy_cannot_express_is_left_to_the_callout(
    sections: dict[str, Any], why: str
) -> None:
    found = plan_of(**sections)
    assert not found.native
    assert found.callout.startswith(why) or why in found.callout


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"issuer": {"leeway": 2}},
        {"issuer": {"algorithms": ["ES256", "RS256"]}},
        {"methods": ["GET", "POST"]},
        {"limits": {"rules": [{"name": "x", "rate": 1, "match": [OTHER_MODEL]}]}},
        {"access": {"allow": [{"claims": {"a.b": "x"}}, {"groups": ["staff"]}]}},
        {"access": {"public": True}, "issuer": {"leeway": 0}},
    ],
    ids=str,
)  # fmt: skip
def test_a_model_with_any_way_that_envoy_can_express_is_native(sections: dict[str, Any]) -> None:
    assert plan_of(**sections).native


def test_no_way_comes_after_a_rule_that_envoy_cannot_compare() -> None:
    """The requests of a lower way could match this rule."""
    rules = [{"value": "vip", "version": "v2"}, {"claim": "a.b", "value": "x", "version": "v2"}]
    ways = plan_of(claim_rules=rules, canaries=[{"version": "v2", "percent": 5}]).chosen
    assert [(way.name, bool(way.callout)) for way in ways] == [
        ("claim_rules.0", False),
        ("claim_rules.1", True),
    ]


def test_the_ways_have_the_order_of_the_decision() -> None:
    canary = {"version": "v2", "percent": 5, "model_types": ["a"]}
    rules = [{"value": "vip", "version": "v2"}]
    public = {"public": True}
    ways = plan_of(claim_rules=rules, canaries=[canary], access=public).chosen
    assert [way.name for way in ways] == [
        "claim_rules.0",
        "canaries.0.headers",
        "canaries.percent",
        "canaries.percent",
        "canaries.model_types",
        "stable",
    ]
    assert all(sum(pick.weight for pick in way.picks) == 10_000 for way in ways)


def test_no_way_follows_buckets_that_every_caller_has() -> None:
    canary = {"version": "v2", "percent": 5, "model_types": ["a"]}
    *others, last = plan_of(canaries=[canary]).chosen
    assert (last.name, last.test) == ("canaries.percent", None)
    assert all(way.test is not None for way in others)


def test_a_version_that_speaks_grpc_is_left_to_the_callout() -> None:
    found = plan_of(versions=GRPC, claim_rules=[{"value": "vip", "version": "v2"}])
    assert [way.callout == "" for way in found.ways] == [False, True, True, False]


def test_buckets_by_modulo_are_left_to_the_callout() -> None:
    canaries = [{"version": "v2", "percent": 5}]
    ways = plan_of(canaries=canaries, bucket={"hash": "modulo"}).chosen
    assert [bool(way.callout) for way in ways] == [False, True, False]


@pytest.mark.parametrize("name", ["xxh64", "modulo"])
def test_no_way_follows_buckets_by_a_header_that_envoy_does_not_match(name: str) -> None:
    canaries = [{"version": "v2", "percent": 5}]
    last = plan_of(canaries=canaries, bucket={"hash": name, "header": "host"}).chosen[-1]
    assert last.test is None
    assert "bucket.header" in last.callout


@pytest.mark.parametrize(
    ("value", "plain"),
    [("vip", True), ("a b", True), ("42", True), ("0", True), ("West", True), ("true", True),
     ("", False), ("042", False), ("-1", False), ("0.5", False), ("1e3", False), ("inf", False),
     (str(2**53), False), ("WyJ2aXAiXQ==", False), ("eyJhIjoxfQ==", False), ("a\nb", False)],
)  # fmt: skip
def test_only_text_that_stands_for_one_value_is_compared(value: str, plain: bool) -> None:
    assert is_plain(value) is plain


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_envoy_writes_otherwise_is_not_compared(number: float) -> None:
    """Envoy writes a number that is not an integer from 0 with six digits after the point."""
    for text in (repr(number), f"{number:f}"):
        if is_plain(text):
            assert number.is_integer()
            assert text == str(int(number))


@pytest.mark.parametrize("subject", ["", " a", "a ", "100%", "müller", "a\tb"])
def test_a_subject_that_needs_escapes_is_not_its_own_header(subject: str) -> None:
    assert not is_header_safe(subject)
