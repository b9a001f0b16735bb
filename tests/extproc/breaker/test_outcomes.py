"""Only what a version did counts for or against it."""

from typing import Any, NamedTuple

import pytest

from extproc.breaker.outcomes import FAILURE_STATUSES, succeeded
from extproc.rpc import StatusCode
from extproc.telemetry.entry import NO_GRPC_OUTCOME, GrpcOutcome, RequestOutcome


class End(NamedTuple):
    """How a request ended, and whether the response had started to arrive."""

    request: RequestOutcome
    response_started: bool


def ended(
    status: int = 200,
    *,
    flags: str = "",
    reason: str = "stable",
    upstream: str = "127.0.0.1:9001",
    response_started: bool = True,
    version: str = "v1",
    grpc: GrpcOutcome = NO_GRPC_OUTCOME,
) -> End:
    request = RequestOutcome(
        "POST", "HTTP/2", status, flags, reason, "m", version, False, upstream, grpc
    )
    return End(request, response_started)


def called(
    code: StatusCode | None, *, validated: bool = True, expired: bool = False, **more: Any
) -> End:
    """The end of a gRPC client's call."""
    return ended(**more, grpc=GrpcOutcome(code, validated, expired))


def result(end: End) -> bool | None:
    return succeeded(end.request, response_started=end.response_started)


@pytest.mark.parametrize(
    "end",
    [
        ended(500),
        ended(503, reason="model_unavailable"),
        ended(502, reason="bad_model_response"),
        ended(503, flags="UC", reason="model_unreachable"),
        ended(503, flags="UF", reason="model_unreachable", upstream="", response_started=False),
        ended(504, flags="UT", reason="model_timeout", response_started=False),
        # Envoy's own responses to a gRPC client have the HTTP status 200 too.
        ended(200, flags="UT", reason="model_timeout", response_started=False),
        # The response was buffered for conversion, so nothing of it has reached the client.
        ended(504, flags="UT", reason="model_timeout"),
        ended(200, flags="UR", reason="gateway_error"),
        called(StatusCode.UNKNOWN),
        called(StatusCode.INTERNAL),
        called(StatusCode.UNAVAILABLE),
        called(StatusCode.UNAVAILABLE, status=503),
        called(StatusCode.UNAVAILABLE, validated=False),
        called(StatusCode.DATA_LOSS),
        # Before the client's deadline, if it set one.
        called(StatusCode.DEADLINE_EXCEEDED),
        called(None, flags="UR"),
        # The client's deadline does not excuse a version that sends nothing at all.
        called(None, flags="UT", reason="model_timeout", expired=True, response_started=False),
        called(None, flags="UF", expired=True, response_started=False),
        # The response had started with an error status before the status OK.
        called(StatusCode.OK, status=500),
    ],
    ids=str,
)
def test_no_response_and_an_error_response_are_failures(end: End) -> None:
    assert result(end) is False


@pytest.mark.parametrize(
    "end",
    [
        ended(200),
        ended(404),
        ended(429, reason="model_resource_exhausted"),
        ended(101),
        # The client cancelled the response after it had begun.
        ended(200, flags="DR", reason="client_left"),
        *(
            called(code)
            for code in StatusCode
            if code not in FAILURE_STATUSES | {StatusCode.CANCELLED}
        ),
        # Envoy's HTTP status for a gRPC client of HTTP/1.1.
        called(StatusCode.INVALID_ARGUMENT, status=503),
    ],
    ids=str,
)
def test_every_other_response_of_the_version_is_a_success(end: End) -> None:
    assert result(end) is True


@pytest.mark.parametrize(
    "end",
    [
        # The client read its response slowly.
        ended(200, flags="UT", reason="gateway_error"),
        ended(200, flags="DC,UT", reason="model_timeout"),
        ended(0, flags="DC", reason="client_left", response_started=False),
        called(StatusCode.CANCELLED),
        # The client's own deadline had passed.
        called(StatusCode.DEADLINE_EXCEEDED, expired=True),
        called(StatusCode.UNKNOWN, expired=True),
        called(None, flags="UR", expired=True),
        # The server may have been unable to parse the client's message.
        called(StatusCode.UNKNOWN, validated=False),
        called(StatusCode.INTERNAL, validated=False),
    ],
    ids=str,
)
def test_what_a_client_can_cause_counts_neither_way(end: End) -> None:
    assert result(end) is None


@pytest.mark.parametrize(
    "end",
    [
        ended(413, reason="body_too_large", response_started=False),
        ended(403, reason="model_mismatch", response_started=False),
        ended(503, reason="conversion_queue_full"),
        ended(503, reason="decision_unavailable", response_started=False),
        ended(500, reason="gateway_error"),
        ended(503, flags="UO", reason="overloaded", upstream="", response_started=False),
        ended(401, reason="unauthenticated", version="", upstream="", response_started=False),
    ],
    ids=str,
)
def test_what_the_gateway_did_counts_neither_way(end: End) -> None:
    assert result(end) is None
