"""Every refusal is a problem document (RFC 9457)."""

import json

import pytest

from extproc.convert import ConversionError
from extproc.convert.grpc_status import grpc_problem
from extproc.decision import Reason, Refusal
from extproc.problem import problem
from extproc.services.responses import refusal_body

REFUSAL = Refusal(Reason.RATE_LIMITED, "the limit is used up")


@pytest.mark.parametrize(
    "document",
    [
        refusal_body(REFUSAL, {"x-request-id": b"id-7"}),
        ConversionError(Reason.WRONG_SHAPE, "", "does not fit").problem("id-7"),
        grpc_problem(5, {"grpc-message": "no such model"}, "id-7")[2],
    ],
    ids=["decision", "conversion", "model server"],
)
def test_every_refusal_has_the_same_members(document: bytes) -> None:
    found = json.loads(document)
    assert list(found) == ["type", "title", "status", "detail", "error", "reason", "instance"]
    assert found["type"] == "about:blank"
    assert found["instance"] == "urn:request:id-7"


def test_the_member_of_the_inference_protocol_names_the_cause() -> None:
    """Clients of the Open Inference Protocol and of V1 read only `error`."""
    plain = json.loads(refusal_body(REFUSAL, {}))
    placed = json.loads(ConversionError(Reason.WRONG_SHAPE, "x.shape", "does not fit").problem())
    empty = json.loads(grpc_problem(5, {}, "")[2])
    assert plain["error"] == "the limit is used up"
    assert placed["error"] == "x.shape: does not fit"
    assert empty["error"] == "Not Found"


def test_titles_are_those_of_rfc_9110() -> None:
    titles = [json.loads(problem(status, "r", "d"))["title"] for status in (413, 422)]
    assert titles == ["Content Too Large", "Unprocessable Content"]


def test_the_field_is_omitted_only_if_empty() -> None:
    found = json.loads(problem(422, "wrong_shape", "does not fit", field="inputs[0].shape"))
    assert found["field"] == "inputs[0].shape"
    assert "instance" not in found


def test_a_request_without_an_id_has_no_instance() -> None:
    assert "instance" not in json.loads(refusal_body(REFUSAL, {}))


def test_lone_surrogates_are_replaced() -> None:
    found = json.loads(problem(422, "wrong_element", "'\ud800' is no FP32", field="\udfff"))
    assert found["detail"] == "'?' is no FP32"
    assert found["field"] == "?"


@pytest.mark.parametrize(
    ("detail", "text"),
    [("no such model", b"no such model"), ("", b"Not Found"), ("x" * 999, b"x" * 200)],
)
def test_a_grpc_client_gets_one_line_of_text(detail: str, text: bytes) -> None:
    refusal = Refusal(Reason.UNKNOWN_MODEL, detail)
    assert refusal_body(refusal, {"content-type": b"application/grpc"}) == text
