"""Every reason has one status and one place in the contract."""

import pytest

from sluice.contract.local_replies import (
    LOCAL_REPLIES,
    LOCAL_REPLIES_BY_STATUS,
    local_reply_reason,
)
from sluice.contract.problem import title
from sluice.contract.reasons import (
    ADMISSIONS,
    CONVERSION_REFUSALS,
    DECISION_REFUSALS,
    STATUS,
    Reason,
)
from sluice.contract.report import MAX_TEXT
from sluice.contract.request_end import RequestEnd


def test_every_reason_is_in_a_table() -> None:
    replied = {reply.reason for reply in LOCAL_REPLIES}
    replied |= {reason for reason, _ in LOCAL_REPLIES_BY_STATUS.values()}
    logged = {Reason.CLIENT_LEFT, Reason.CORS_PREFLIGHT, Reason.GATEWAY_STATUS}
    assert {*ADMISSIONS, *STATUS, *replied, *logged} == set(Reason)


def test_a_reason_is_an_admission_or_a_refusal_with_one_status() -> None:
    assert not set(ADMISSIONS) & set(STATUS)
    assert not set(DECISION_REFUSALS) & set(CONVERSION_REFUSALS)
    for reply in LOCAL_REPLIES:
        assert STATUS.get(reply.reason, reply.status) == reply.status
    for status, (reason, _) in LOCAL_REPLIES_BY_STATUS.items():
        assert STATUS.get(reason, status) == status


@pytest.mark.parametrize("status", sorted({*STATUS.values(), *LOCAL_REPLIES_BY_STATUS, 499}))
def test_every_status_has_a_title(status: int) -> None:
    assert title(status) not in ("", "Error")


@pytest.mark.parametrize(
    "end",
    [
        RequestEnd("forbidden", "a%3Ab:c;rule=x"),
        RequestEnd("no_policy"),
        RequestEnd("rate_limited", "alice", rule="per;user=1:2 %"),
        RequestEnd("invalid_credentials", cause="expired"),
        RequestEnd("breaker_open", version="v2", rule="r"),
        RequestEnd("wrong_type", details='inputs[0].parameters["\u00e4 b"]'),
    ],
)
def test_the_details_of_a_refusal_are_read_as_they_are_written(end: RequestEnd) -> None:
    assert RequestEnd.parse(end.callout_details()) == end


def test_the_details_of_a_refusal_have_a_part_of_a_long_subject() -> None:
    long = RequestEnd("forbidden", "s" * 50_000)
    found = RequestEnd.parse(long.callout_details())
    assert found is not None
    assert found.subject == "s" * MAX_TEXT


@pytest.mark.parametrize("details", ["", "via_upstream", "sluice", "ext_proc_error"])
def test_other_details_are_not_a_refusal_by_the_callout(details: str) -> None:
    assert RequestEnd.parse(details) is None


@pytest.mark.parametrize(
    ("details", "status", "reason"),
    [
        ("stream_idle_timeout", 504, Reason.IDLE_TIMEOUT),
        ("stream_idle_timeout", 408, Reason.REQUEST_TIMEOUT),
        ("upstream_reset_before_response_started{overflow}", 503, Reason.OVERLOADED),
        ("upstream_reset_before_response_started{x}", 503, Reason.MODEL_UNREACHABLE),
        (
            "upstream_reset_before_response_started{remote_connection_failure|TLS_error:|x}",
            503,
            Reason.MODEL_TLS_FAILED,
        ),
        ("failed_to_inject_credential", 401, Reason.MODEL_CREDENTIAL_MISSING),
        ("downstream_remote_disconnect", 0, Reason.CLIENT_LEFT),
        ("http1.codec_error", 400, Reason.BAD_REQUEST),
        ("http2.violation.of.messaging.rule", 0, Reason.BAD_REQUEST),
        ("http2.violation.of.messaging.rule", 200, Reason.BAD_REQUEST),
        ("http1.headers_too_large", 431, Reason.HEADERS_TOO_LARGE),
        ("http1.invalid_transfer_encoding", 501, Reason.NOT_IMPLEMENTED),
        ("http2.remote_reset", 200, Reason.CLIENT_LEFT),
        ("request_payload_too_large", 408, Reason.BODY_TOO_LARGE),
        ("downstream_remote_disconnect", 404, Reason.CLIENT_LEFT),
        ("upstream_reset_after_response_started{reset}", 200, Reason.MODEL_UNREACHABLE),
        ("anything_else", 418, Reason.GATEWAY_ERROR),
    ],
)
def test_a_local_reply_has_the_reason_that_the_client_gets(
    details: str, status: int, reason: Reason
) -> None:
    assert local_reply_reason(details, status) is reason
