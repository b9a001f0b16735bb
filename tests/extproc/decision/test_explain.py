"""Explaining is deciding, told in words."""

from extproc.decision import Admission, Refusal, explain
from tests.extproc.decision.requests import bearer, policy, request

POLICY = policy(
    {
        "m": {
            "paths": ["/classify"],
            "websocket": True,
            "max_body": 100,
            "content_types": ["application/json", "image/*"],
            "claim_rules": [{"claim": "group", "value": "vip", "version": "v2"}],
            "canaries": [{"version": "v3", "percent": 50, "model_types": ["t"]}],
            "bucket": {"header": "x-user", "hash": "modulo"},
        },
        "private": {"access": {"allow": [{"groups": ["vip"]}]}},
    }
)


def test_an_explanation_says_why_in_words() -> None:
    reports, _ = explain(POLICY, request(authorization=bearer(group="vip")))
    told = {report.stage: report.why for report in reports}
    assert "model m" in told["validate"]
    assert "alice" in told["authenticate"]
    assert "public" in told["authorize"]
    assert "claim" in told["route"]
    assert "explicitly" in told["canary"]


def test_an_explanation_ends_where_the_decision_does() -> None:
    reports, decision = explain(POLICY, request("/v2/models/private/infer"))
    assert isinstance(decision, Refusal)
    assert [report.stage for report in reports] == ["validate", "authenticate", "authorize"]
    assert "401 unauthenticated" in reports[-1].why


def test_an_explanation_names_the_bucket() -> None:
    for user, version in (("149", "v3"), ("150", "v1")):
        reports, decision = explain(POLICY, request(x_user=user))
        assert isinstance(decision, Admission)
        assert decision.target.version == version
        told = next(report.why for report in reports if report.stage == "canary")
        assert f"bucket {int(user) % 100}" in told
