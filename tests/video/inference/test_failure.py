"""The status of a request says why a frame has no result, and whether the stream goes on."""

import pytest

from sluice.contract.grpc import StatusCode
from sluice.contract.video import VideoReason
from video.inference.failure import MAX_DETAIL, Failure, failure_of
from video.inference.retries import FIRST_DELAY, retry_delay

BUSY = failure_of(StatusCode.UNAVAILABLE, "no healthy upstream", [("server", "envoy")])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (StatusCode.UNAUTHENTICATED, VideoReason.CREDENTIALS_EXPIRED),
        (StatusCode.PERMISSION_DENIED, VideoReason.FORBIDDEN),
        (StatusCode.NOT_FOUND, VideoReason.UNKNOWN_MODEL),
    ],
)
def test_a_refusal_that_all_frames_would_get_ends_the_stream(
    code: StatusCode, reason: VideoReason
) -> None:
    assert failure_of(code, "why", []) == Failure(reason, "why", ends_stream=True)


@pytest.mark.parametrize("code", set(StatusCode) - {StatusCode.OK})
def test_every_status_has_a_reason(code: StatusCode) -> None:
    failure = failure_of(code, "", [])
    assert failure.reason in VideoReason
    assert not (failure.ends_stream and failure.may_pass)


def test_only_limits_and_missing_servers_may_pass() -> None:
    passing = {code for code in StatusCode if failure_of(code, "", []).may_pass}
    assert passing == {StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE}


def test_a_gateway_that_does_not_answer_is_unreachable() -> None:
    failure = failure_of(StatusCode.UNAVAILABLE, "failed to connect to all addresses", [])
    assert failure.reason is VideoReason.GATEWAY_UNREACHABLE


def test_a_limit_that_refuses_is_no_failure_of_the_model() -> None:
    assert BUSY.reason is VideoReason.MODEL_UNAVAILABLE
    limited = failure_of(StatusCode.RESOURCE_EXHAUSTED, "the limit is reached", [])
    assert limited.reason is VideoReason.REFUSED


def test_a_response_that_is_too_large_is_not_retried() -> None:
    details = "CLIENT: Received message larger than max (20 vs. 10)"
    failure = failure_of(StatusCode.RESOURCE_EXHAUSTED, details, [("server", "envoy")])
    assert failure.reason is VideoReason.MODEL_FAILED
    assert not failure.may_pass


def test_the_detail_is_bounded_and_printable() -> None:
    failure = failure_of(StatusCode.INTERNAL, "\x1b[2J" + "x" * 10_000, [])
    assert failure.detail.isprintable()
    assert len(failure.detail) == MAX_DETAIL


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2", 2.0), (b"2", 2.0), ("9" * 400, 300.0), ("-1", None), ("soon", None), ("\u0662", None)],
)
def test_retry_after_is_read_in_seconds(value: str | bytes, seconds: float | None) -> None:
    failure = failure_of(StatusCode.RESOURCE_EXHAUSTED, "", [("retry-after", value)])
    assert failure.retry_after == seconds


def test_the_delay_grows_and_is_spread() -> None:
    assert retry_delay(BUSY, 0, 3, 5.0, 0.5) == FIRST_DELAY
    assert retry_delay(BUSY, 2, 3, 5.0, 0.5) == 4 * FIRST_DELAY
    assert retry_delay(BUSY, 0, 3, 5.0, 0.0) == FIRST_DELAY / 2


def test_there_are_no_more_retries_than_configured() -> None:
    assert retry_delay(BUSY, 3, 3, 5.0, 0.5) is None
    assert retry_delay(BUSY, 0, 0, 5.0, 0.5) is None


def test_what_cannot_pass_is_not_retried() -> None:
    assert retry_delay(failure_of(StatusCode.INTERNAL, "", []), 0, 3, 5.0, 0.5) is None


def test_a_retry_honours_retry_after_within_the_deadline() -> None:
    limited = failure_of(StatusCode.RESOURCE_EXHAUSTED, "", [("retry-after", "2")])
    assert retry_delay(limited, 0, 1, 5.0, 0.5) == 2.0
    assert retry_delay(limited, 0, 1, 2.0, 0.5) is None
