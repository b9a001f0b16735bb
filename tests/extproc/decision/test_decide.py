"""Tests of the decision as a whole, and of its explanation."""

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
from tests.extproc.decision.requests import (
    API_KEY,
    POLICY,
    REQUESTS,
    VERSIONS,
    bearer,
    make_policy,
    make_request,
    policy_with,
)

PRIVATE = "/v2/models/private/infer"
WRONG = {"content_type": "text/html", "authorization": "Bearer x", "x_model_version": "v9"}
JSON = {"content_type": "application/json"}
CAROL = {"authorization": bearer(sub="carol")}
VIP = {"authorization": bearer(group="vip")}


@settings(max_examples=500, deadline=None)
@given(REQUESTS)
@example(Request({}, has_body=False, now=NOW))
@example(make_request("/v2/models/" + "/" * 10_000))
def test_decide_explain_and_decide_with_timings_agree_on_every_request(request: Request) -> None:
    decision = decide(POLICY, request)
    explained, reports = explain(POLICY, request)
    measured, timings = decide_with_timings(POLICY, request, itertools.count().__next__)
    assert decision == explained == measured
    assert decide(POLICY, request) == decision
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
def test_only_credentials_open_a_private_model(
    request: Request,
) -> None:
    decision = decide(POLICY, request)
    if isinstance(decision, Admission) and decision.target.model == "private":
        presented = request.headers.get("authorization"), request.headers.get("x-api-key")
        assert presented in {
            (bearer(sub="bob").encode(), None),
            (bearer(group="vip").encode(), None),
            (None, API_KEY.encode()),
        }


@settings(max_examples=200, deadline=None)
@given(REQUESTS)
def test_internal_headers_from_a_client_do_not_change_the_decision(request: Request) -> None:
    names = ("x-model-service", "x-sluice-subject", "x-sluice-model", "x-sluice-reason")
    forged = dict.fromkeys(names, b"private/v1")
    with_them = Request({**request.headers, **forged}, request.has_body, request.now)
    assert decide(POLICY, with_them) == decide(POLICY, request)


@pytest.mark.parametrize(
    ("refused", "stage", "reason"),
    [
        (make_request("/nowhere", "PUT", **WRONG), "validate", Reason.UNKNOWN_MODEL),
        (make_request(PRIVATE, "PUT", **WRONG), "validate", Reason.METHOD_NOT_ALLOWED),
        (make_request(PRIVATE, **WRONG), "validate", Reason.UNSUPPORTED_MEDIA_TYPE),
        (make_request(PRIVATE, **WRONG | JSON), "authenticate", Reason.INVALID_CREDENTIALS),
        (make_request(PRIVATE, **WRONG | JSON | CAROL), "authorize", Reason.FORBIDDEN),
        (make_request(PRIVATE, **WRONG | JSON | VIP), "route", Reason.UNKNOWN_VERSION),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_stage_that_finds_an_error_refuses(
    refused: Request, stage: str, reason: Reason
) -> None:
    decision = decide(POLICY, refused)
    assert isinstance(decision, Refusal)
    assert (decision.stage, decision.reason) == (stage, reason)


GRPC = {"v1": {**VERSIONS["v1"], "protocol": "grpc"}}


@pytest.mark.parametrize(
    ("operation", "method", "converter"),
    [
        ("ready", "GET", "ready-grpc"),
        ("ready", "HEAD", "ready-grpc"),
        ("", "GET", "metadata-grpc"),
        ("versions/v1/ready", "GET", "ready-grpc"),
        ("versions/v1", "HEAD", "metadata-grpc"),
        ("infer", "POST", "json-grpc"),
    ],
)
def test_inference_readiness_and_metadata_are_converted_for_a_version_that_speaks_grpc(
    operation: str, method: str, converter: str
) -> None:
    path = f"/v2/models/tensors/{operation}"
    body = method == "POST"
    admitted = decide(POLICY, make_request(path, method, body=body, authorization=bearer()))
    assert isinstance(admitted, Admission)
    assert admitted.converter is not None
    assert admitted.converter.name == converter
    assert admitted.converter.takes_body is body
    # Readiness and metadata need the same access as inference.
    private = make_policy({"tensors": {"versions": GRPC, "access": {"public": False}}})
    stranger = decide(private, make_request(path, method, body=body))
    assert isinstance(stranger, Refusal)
    assert stranger.reason is Reason.UNAUTHENTICATED


def test_a_request_for_readiness_has_no_body() -> None:
    request = make_request("/v2/models/tensors/ready", "GET", authorization=bearer())
    decision = decide(POLICY, request)
    assert isinstance(decision, Refusal)
    assert (decision.stage, decision.reason) == ("convert", Reason.MALFORMED_REQUEST)


def test_a_content_type_cannot_choose_the_converter_of_a_query() -> None:
    request = make_request("/v2/models/tensors/infer", authorization=bearer(), content_type="ready")
    assert isinstance(decide(POLICY, request), Refusal)


@pytest.mark.parametrize("media_type", ["application/grpc", "Application/GRPC+json;a=b"])
@pytest.mark.parametrize(
    ("protocol", "path", "admitted"),
    [
        ("grpc", "/inference.GRPCInferenceService/ModelInfer", True),
        ("grpc", "/custom.Service/Method", True),
        ("grpc", "/v2/models/m/infer", False),
        ("http", "/inference.GRPCInferenceService/ModelInfer", False),
        ("http", "/custom.Service/Method", False),
        ("http", "/v2/models/m/infer", False),
    ],
)
def test_a_grpc_content_type_is_accepted_only_for_grpc_methods_of_a_grpc_server(
    media_type: str, protocol: str, path: str, admitted: bool
) -> None:
    versions = {"v1": {"endpoints": [{"address": "127.0.0.1:9"}], "protocol": protocol}}
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1]}]
    policy = policy_with(versions=versions, inputs=inputs, paths=["/custom.Service"])
    decision = decide(policy, make_request(path, x_model_name="m", content_type=media_type))
    if admitted:
        assert isinstance(decision, Admission)
        assert decision.converter is None
    else:
        assert isinstance(decision, Refusal)
        assert (decision.stage, decision.status) == ("convert", 415)


def test_an_explanation_says_what_each_stage_found() -> None:
    _, reports = explain(POLICY, make_request(authorization=bearer(group="vip")))
    explanations = {report.stage: report.explanation for report in reports}
    assert "model m" in explanations["validate"]
    assert "alice" in explanations["authenticate"]
    assert "public" in explanations["authorize"]
    assert "claim" in explanations["route"]
    assert "claim rule" in explanations["canary"]


def test_an_explanation_names_the_status_and_reason_of_a_refusal() -> None:
    _, reports = explain(POLICY, make_request(PRIVATE))
    assert "401 unauthenticated" in reports[-1].explanation


def test_an_explanation_names_the_bucket() -> None:
    policy = policy_with(
        canaries=[{"version": "v3", "percent": 50}],
        bucket={"header": "x-user", "hash": "modulo"},
    )
    for user, version in (("149", "v3"), ("150", "v1")):
        decision, reports = explain(policy, make_request(x_user=user))
        assert isinstance(decision, Admission)
        assert decision.target.version == version
        explanation = next(report.explanation for report in reports if report.stage == "canary")
        assert f"bucket {int(user) % 100}" in explanation
