"""Explaining is deciding, told in words; and deciding has an answer to everything."""

from hypothesis import given
from hypothesis import strategies as st

from extproc.decision import Admission, Refusal, Request, decide, explain
from tests.extproc.auth.tokens import NOW
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

VALUES: dict[str, list[bytes]] = {
    ":method": [b"POST", b"GET", b"HEAD", b"PUT"],
    ":path": [
        b"/v2/models/m/infer",
        b"/v2/models/m",
        b"/v2/models/m/versions/v2/infer",
        b"/v2/models/private/infer?a=b",
        b"/classify/x",
        b"/inference.GRPCInferenceService/ModelInfer",
    ],
    "content-type": [b"application/json", b"image/png; q=1", b"application/grpc"],
    "content-length": [b"0", b"100", b"101"],
    "authorization": [
        bearer().encode(),
        bearer(group="vip").encode(),
        b"Bearer a.b.c",
        b"Basic eA==",
    ],
    "x-api-key": [b"key"],
    "x-model-name": [b"m", b"private"],
    "x-model-version": [b"v1", b"v2", b"v9"],
    "x-model-type": [b"t"],
    "x-canary": [b"true"],
    "x-user": [b"7", b"77", b"-"],
    "upgrade": [b"websocket"],
}

REQUESTS = st.builds(
    Request,
    headers=st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from(values) | st.binary(max_size=40)
            for name, values in VALUES.items()
        },
    ),
    has_body=st.booleans(),
    now=st.just(NOW),
)


@given(REQUESTS)
def test_every_request_is_admitted_or_refused_and_explained_alike(asked: Request) -> None:
    decision = decide(POLICY, asked)
    reports, explained = explain(POLICY, asked)
    assert explained == decision
    assert [report.passed for report in reports[:-1]] == [True] * (len(reports) - 1)
    assert reports[-1].passed == isinstance(decision, Admission)
    assert all(report.why for report in reports)


@given(REQUESTS)
def test_nobody_without_the_group_reaches_the_guarded_model(asked: Request) -> None:
    decision = decide(POLICY, asked)
    if isinstance(decision, Admission) and decision.target.model == "private":
        assert asked.headers["authorization"] == VALUES["authorization"][1]


@given(REQUESTS)
def test_a_decision_depends_on_nothing_but_its_arguments(asked: Request) -> None:
    assert decide(POLICY, asked) == decide(POLICY, asked)


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
