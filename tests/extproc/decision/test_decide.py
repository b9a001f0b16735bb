"""The decision as a whole: it comes to an end, and tells the same why however it is asked."""

import itertools

import pytest
from hypothesis import example, given, settings

from extproc.decision import (
    Admission,
    Reason,
    Refusal,
    Request,
    decide,
    decide_with_timings,
    explain,
)
from extproc.decision.decide import STAGES
from sluice.contract.reasons import STATUS
from tests.extproc.auth.tokens import NOW
from tests.extproc.decision.requests import API_KEY, POLICY, REQUESTS, bearer, one, request

PRIVATE = "/v2/models/private/infer"
WRONG = {"content_type": "text/html", "authorization": "Bearer x", "x_model_version": "v9"}
JSON = {"content_type": "application/json"}
CAROL = {"authorization": bearer(sub="carol")}
VIP = {"authorization": bearer(group="vip")}


@settings(max_examples=500, deadline=None)
@given(REQUESTS)
@example(Request({}, has_body=False, now=NOW))
@example(request("/v2/models/" + "/" * 10_000))
def test_every_request_is_admitted_or_refused_and_explained_alike(asked: Request) -> None:
    decision = decide(POLICY, asked)
    explained, reports = explain(POLICY, asked)
    measured, timings = decide_with_timings(POLICY, asked, itertools.count().__next__)
    assert decision == explained == measured
    assert decide(POLICY, asked) == decision
    assert [report.stage for report in reports] == [stage for stage, _ in timings]
    assert all(report.explanation for report in reports)
    assert all(report.passed for report in reports[:-1])
    assert reports[-1].passed == isinstance(decision, Admission)
    if isinstance(decision, Refusal):
        assert decision.stage == reports[-1].stage
        assert decision.reason in STATUS
        assert decision.detail
    else:
        assert len(reports) == len(STAGES)
        assert decision.reason not in STATUS
        assert decision.canary == decision.reason.startswith("canary_")


@settings(max_examples=200, deadline=None)
@given(REQUESTS)
def test_no_header_of_a_client_admits_it_to_a_model_that_its_credentials_do_not(
    asked: Request,
) -> None:
    decision = decide(POLICY, asked)
    if isinstance(decision, Admission) and decision.target.model == "private":
        presented = asked.headers.get("authorization"), asked.headers.get("x-api-key")
        assert presented in {
            (bearer(sub="bob").encode(), None),
            (bearer(group="vip").encode(), None),
            (None, API_KEY.encode()),
        }


@settings(max_examples=200, deadline=None)
@given(REQUESTS)
def test_internal_headers_of_a_client_change_no_decision(asked: Request) -> None:
    names = ("x-model-service", "x-sluice-subject", "x-sluice-model", "x-sluice-reason")
    forged = dict.fromkeys(names, b"private/v1")
    with_them = Request({**asked.headers, **forged}, asked.has_body, asked.now)
    assert decide(POLICY, with_them) == decide(POLICY, asked)


@pytest.mark.parametrize(
    ("asked", "stage", "reason"),
    [
        (request("/nowhere", "PUT", **WRONG), "validate", Reason.UNKNOWN_MODEL),
        (request(PRIVATE, "PUT", **WRONG), "validate", Reason.METHOD_NOT_ALLOWED),
        (request(PRIVATE, **WRONG), "validate", Reason.UNSUPPORTED_MEDIA_TYPE),
        (request(PRIVATE, **WRONG | JSON), "authenticate", Reason.INVALID_CREDENTIALS),
        (request(PRIVATE, **WRONG | JSON | CAROL), "authorize", Reason.FORBIDDEN),
        (request(PRIVATE, **WRONG | JSON | VIP), "route", Reason.UNKNOWN_VERSION),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_all_that_is_wrong_the_first_stage_that_refuses_answers(
    asked: Request, stage: str, reason: Reason
) -> None:
    decision = decide(POLICY, asked)
    assert isinstance(decision, Refusal)
    assert (decision.stage, decision.reason) == (stage, reason)


def test_a_model_of_tensors_on_a_grpc_server_answers_inference_and_nothing_else() -> None:
    asked = request("/v2/models/tensors/ready", "GET", body=False, authorization=bearer())
    decision = decide(POLICY, asked)
    assert isinstance(decision, Refusal)
    assert (decision.stage, decision.status) == ("convert", 405)
    infer = decide(POLICY, request("/v2/models/tensors/infer", authorization=bearer()))
    assert isinstance(infer, Admission)
    assert infer.converter is not None


@pytest.mark.parametrize("media_type", ["application/grpc", "Application/GRPC+json;a=b"])
@pytest.mark.parametrize(
    ("protocol", "path", "goes_on"),
    [
        ("grpc", "/inference.GRPCInferenceService/ModelInfer", True),
        ("grpc", "/own.Service/Method", True),
        ("grpc", "/v2/models/m/infer", False),
        ("http", "/inference.GRPCInferenceService/ModelInfer", False),
        ("http", "/own.Service/Method", False),
        ("http", "/v2/models/m/infer", False),
    ],
)
def test_calling_a_body_grpc_spares_it_no_conversion(
    media_type: str, protocol: str, path: str, goes_on: bool
) -> None:
    versions = {"v1": {"endpoints": [{"address": "127.0.0.1:9"}], "protocol": protocol}}
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1]}]
    by = one(versions=versions, inputs=inputs, paths=["/own.Service"])
    decision = decide(by, request(path, x_model_name="m", content_type=media_type))
    if goes_on:
        assert isinstance(decision, Admission)
        assert decision.converter is None
    else:
        assert isinstance(decision, Refusal)
        assert (decision.stage, decision.status) == ("convert", 415)


def test_an_explanation_says_why_in_words() -> None:
    _, reports = explain(POLICY, request(authorization=bearer(group="vip")))
    told = {report.stage: report.explanation for report in reports}
    assert "model m" in told["validate"]
    assert "alice" in told["authenticate"]
    assert "public" in told["authorize"]
    assert "claim" in told["route"]
    assert "explicitly" in told["canary"]


def test_an_explanation_names_the_status_and_reason_of_a_refusal() -> None:
    _, reports = explain(POLICY, request(PRIVATE))
    assert "401 unauthenticated" in reports[-1].explanation


def test_an_explanation_names_the_bucket() -> None:
    by = one(
        canaries=[{"version": "v3", "percent": 50}],
        bucket={"header": "x-user", "hash": "modulo"},
    )
    for user, version in (("149", "v3"), ("150", "v1")):
        decision, reports = explain(by, request(x_user=user))
        assert isinstance(decision, Admission)
        assert decision.target.version == version
        told = next(report.explanation for report in reports if report.stage == "canary")
        assert f"bucket {int(user) % 100}" in told
