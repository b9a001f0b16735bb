"""Tests that stages declare the parts of a request that they read."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.decision import Admission, Reads, Refusal, Request, decide, declared_reads
from extproc.decision.context import DecisionContext
from extproc.decision.decide import STAGES, Stage
from extproc.policy.compiled import Policy
from tests.extproc.auth.tokens import NOW, issuer
from tests.extproc.decision.recording import wrong_declarations
from tests.extproc.decision.requests import (
    API_KEY,
    POLICY,
    REQUESTS,
    VERSIONS,
    bearer,
    make_policy,
    make_request,
)

TENSORS = [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
POLICIES = (
    make_policy({"m": {}}),
    make_policy(
        {"m": {"access": {"allow": [{"groups": ["vip"]}]}}},
        auth={
            "api_key_header": "x-custom-key",
            "issuers": [issuer()],
            "api_keys": [
                {
                    "name": "batch",
                    "sha256": hashlib.sha256(API_KEY.encode()).hexdigest(),
                    "groups": ["vip"],
                }
            ],
        },
    ),
    make_policy(
        {
            "m": {
                "canaries": [
                    {"version": "v2", "headers": [{"name": "x-first", "value": "1"}]},
                    {
                        "version": "v3",
                        "percent": 10,
                        "headers": [{"name": "x-second", "value": "1"}],
                    },
                ],
                "bucket": {"header": "x-user"},
            },
            "n": {
                "canaries": [{"version": "v2", "model_types": ["text"], "headers": []}],
                "bucket": {"header": "x-other-user", "hash": "modulo"},
            },
        }
    ),
    make_policy({"m": {"inputs": TENSORS, "websocket": True}}),
    make_policy(
        {
            "m": {
                "versions": {"v1": {**VERSIONS["v1"], "protocol": "grpc"}},
                "inputs": TENSORS,
                "content_types": ["application/json", "application/grpc"],
                "video": {},
            }
        }
    ),
)


def corpus() -> Iterator[tuple[Policy, list[Request]]]:
    """Policies with a rule of every kind, each with requests of every kind."""
    requests = list(_requests())
    return ((policy, requests) for policy in POLICIES)


def _requests() -> Iterator[Request]:
    paths = (
        "/v2/models/m/infer", "/v2/models/m", "/v2/models/m/versions/v2/infer",
        "/v2/models/n/infer", "/inference.GRPCInferenceService/ModelInfer", "/other",
        "/v2/models/m/video", "/v2/models/m/video/s", "/sluice.video.v1.VideoAnalysis/Watch",
    )  # fmt: skip
    headers: tuple[dict[str, str], ...] = (
        {},
        {"authorization": bearer(group="vip"), "content_length": "10"},
        {"authorization": "Bearer no-token", "content_length": "-1"},
        {"x_custom_key": API_KEY, "content_type": "image/png"},
        {"x_api_key": API_KEY, "upgrade": "websocket"},
        {"x_model_version": "v2", "x_model_type": "text", "x_user": "7"},
        {"x_first": "1", "x_second": "1", "traceparent": "00", "x_request_id": "1"},
        {
            "content_type": "application/grpc", "x_model_name": "m", "grpc_timeout": "1S",
            "x_custom_bin": "YQ", "lb_cost_bin": "", "grpc_custom": "",
        },
        {"content_type": "application/grpc", "x_model_name": "m", "x_custom_bin": "%"},
    )  # fmt: skip
    for path, method, body, added in product(paths, ("GET", "POST"), (False, True), headers):
        yield make_request(path, method, body=body, **added)


def test_stages_declare_what_they_read_and_nothing_else() -> None:
    assert wrong_declarations(STAGES, corpus()) == set()


@settings(max_examples=300, deadline=None)
@given(REQUESTS)
def test_no_stage_reads_an_undeclared_part_of_any_request(request: Request) -> None:
    wrong = wrong_declarations(STAGES, [(policy, [request]) for policy in (POLICY, *POLICIES)])
    assert not [fault for fault in wrong if "never reads" not in fault]


def _stage(read: Callable[[Request], object], declared: Reads) -> Stage:
    def run(_: Policy, request: Request, __: DecisionContext) -> Refusal | None:
        read(request)
        return None

    return Stage("extra", run, lambda _: declared, lambda _: "")


@pytest.mark.parametrize(
    ("read", "part"),
    [
        (lambda request: request.headers.get("x-request-id"), "x-request-id"),
        (lambda request: request.headers["content-length"], "content-length"),
        (lambda request: "traceparent" in request.headers, "traceparent"),
        (lambda request: list(request.headers), "the names of headers"),
        (lambda request: len(request.headers), "the names of headers"),
        (lambda request: list(request.headers.items()), ":path"),
        (lambda request: request.has_body, "whether there is a body"),
        (lambda request: request.now, "the time"),
    ],
)  # fmt: skip
def test_an_undeclared_read_is_found(read: Callable[[Request], object], part: str) -> None:
    request = make_request(content_length="1")
    wrong = wrong_declarations([*STAGES, _stage(read, Reads())], [(POLICY, [request])])
    assert f"extra reads {part} and does not declare it" in wrong


@pytest.mark.parametrize(
    ("declared", "part"),
    [
        (Reads(headers=frozenset({"x-unread"})), "x-unread"),
        (Reads(header_patterns=frozenset({"x-unread-*"})), "x-unread-*"),
        (Reads(bounded_by_max_body=frozenset({"x-unread"})), "x-unread"),
        (Reads(header_names=True), "the names of headers"),
        (Reads(has_body=True), "whether there is a body"),
        (Reads(time=True), "the time"),
        (Reads(time_until_expiry=True), "the time"),
    ],
    ids=str,
)
def test_a_declared_part_that_is_never_read_is_found(declared: Reads, part: str) -> None:
    extra = _stage(lambda _: None, declared)
    assert wrong_declarations([*STAGES, extra], corpus()) == {
        f"extra declares {part} and never reads it"
    }


def test_headers_that_rules_of_the_policy_name_are_declared() -> None:
    plain, keyed, canaried, *_ = POLICIES
    named = {"x-first", "x-second", "x-user", "x-other-user", "x-custom-key"}
    assert declared_reads(plain).headers & named == set()
    assert declared_reads(keyed).headers & named == {"x-custom-key"}
    assert declared_reads(canaried).headers & named == named - {"x-custom-key"}


def test_only_authenticate_reads_the_time() -> None:
    timed = {stage.name: stage.reads(POLICY).time_until_expiry for stage in STAGES}
    assert [name for name, reads in timed.items() if reads] == ["authenticate"]
    assert not declared_reads(POLICY).time


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.floats(0, 1))
def test_an_admission_is_valid_until_its_identity_expires(request: Request, part: float) -> None:
    decision = decide(POLICY, request)
    if isinstance(decision, Admission):
        lifetime = min(decision.identity.expires - NOW, 10_000)
        later = replace(request, now=NOW + part * lifetime * 0.999)
        assert decide(POLICY, later) == decision


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.integers(0, 1100))
def test_an_admission_is_valid_for_every_content_length_up_to_max_body(
    request: Request, length: int
) -> None:
    first = replace(request, headers={**request.headers, "content-length": b"0"})
    other = replace(request, headers={**request.headers, "content-length": str(length).encode()})
    decision = decide(POLICY, first)
    if isinstance(decision, Admission):
        if length <= decision.max_body:
            assert decide(POLICY, other) == decision
        else:
            assert isinstance(decide(POLICY, other), Refusal)
