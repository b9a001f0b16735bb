"""Only what a version did counts for or against it."""

from typing import Any, NamedTuple

import pytest

from extproc.breaker.outcomes import FAILURE_STATUSES, succeeded
from extproc.rpc import StatusCode
from extproc.telemetry.entry import NO_GRPC_OUTCOME, GrpcOutcome, Progress, RequestOutcome
from sluice.contract.reasons import CONVERSION_REFUSALS, STATUS

ANSWERED = Progress(
    request_received=True, received_first=True, response_started=True, response_short=False
)
"""The response arrived after the whole request, and so much of it that Envoy cannot buffer it."""

SHORT = ANSWERED._replace(response_short=True)
UNANSWERED = ANSWERED._replace(response_started=False)
HALF_SENT = UNANSWERED._replace(request_received=False, received_first=False)
"""The client never sent the rest of its request."""

ANSWERED_EARLY = ANSWERED._replace(received_first=False)
"""The response began before the client had sent the whole request."""

RESETS = ("UR", "UC", "UPE", "LR")
TIMEOUTS = ("UT", "DT", "UMSDR")


class End(NamedTuple):
    """How a request ended, and how far it got."""

    request: RequestOutcome
    progress: Progress


def ended(
    status: int = 200,
    *,
    flags: str = "",
    reason: str = "stable",
    upstream: str = "127.0.0.1:9001",
    progress: Progress = ANSWERED,
    version: str = "v1",
    grpc: GrpcOutcome = NO_GRPC_OUTCOME,
) -> End:
    request = RequestOutcome(
        "POST", "HTTP/2", status, flags, reason, "m", version, False, upstream, grpc
    )
    return End(request, progress)


def called(
    code: StatusCode | None, *, validated: bool = True, expired: bool = False, **more: Any
) -> End:
    """The end of a gRPC client's call."""
    return ended(**more, grpc=GrpcOutcome(code, validated, expired))


def result(end: End) -> bool | None:
    return succeeded(end.request, end.progress)


@pytest.mark.parametrize(
    "end",
    [
        ended(500),
        ended(503, reason="model_unavailable"),
        *(ended(503, flags=flag, progress=UNANSWERED) for flag in RESETS),
        *(ended(200, flags=flag, progress=SHORT) for flag in RESETS),
        # No client can make a connection fail, not even with a request that is not complete.
        ended(503, flags="UF", reason="model_unreachable", progress=HALF_SENT),
        ended(503, flags="UF,URX", reason="model_unreachable", progress=HALF_SENT),
        ended(503, flags="UH", reason="no_healthy_endpoint", upstream="", progress=HALF_SENT),
        ended(503, flags="UC,URX", reason="model_unreachable", progress=UNANSWERED),
        # The response of the last attempt.
        ended(500, flags="URX"),
        called(StatusCode.UNAVAILABLE, flags="URX"),
        # The version was silent for the idle timeout.
        ended(504, flags="SI", reason="idle_timeout", progress=UNANSWERED),
        ended(200, flags="SI", reason="idle_timeout", progress=SHORT),
        called(None, flags="SI", reason="idle_timeout", progress=UNANSWERED),
        # A call of a bidirectional stream fails after both have sent messages.
        called(StatusCode.UNAVAILABLE, progress=ANSWERED_EARLY),
        ended(503, flags="UF", reason="model_unreachable", upstream="", progress=UNANSWERED),
        ended(504, flags="UT", reason="model_timeout", progress=UNANSWERED),
        # Envoy's own responses to a gRPC client have the HTTP status 200 too.
        ended(200, flags="UT", reason="model_timeout", progress=UNANSWERED),
        # The response was buffered for conversion, so nothing of it has reached the client.
        ended(504, flags="UT", reason="model_timeout"),
        called(StatusCode.UNKNOWN),
        called(StatusCode.INTERNAL),
        called(StatusCode.UNAVAILABLE),
        called(StatusCode.UNAVAILABLE, status=503),
        called(StatusCode.UNAVAILABLE, validated=False),
        called(StatusCode.DATA_LOSS),
        # Before the client's deadline, if it set one.
        called(StatusCode.DEADLINE_EXCEEDED),
        called(None, flags="UR", progress=SHORT),
        # The client's deadline does not excuse a version that sends nothing at all.
        called(None, flags="UT", reason="model_timeout", expired=True, progress=UNANSWERED),
        called(None, flags="UF", expired=True, progress=UNANSWERED),
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
        # The end of a WebSocket, which has no response flag of its own.
        *(ended(101, flags=flag, progress=ANSWERED_EARLY) for flag in (*RESETS, "DC", "SI")),
        # The last attempt of retries for which the config asks, and which a client can cause.
        ended(409, flags="URX"),
        called(StatusCode.RESOURCE_EXHAUSTED, flags="URX"),
        # A response to an incomplete request.
        ended(400, progress=HALF_SENT),
        ended(200, progress=ANSWERED_EARLY),
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
        # The client read its response slowly, or asked for a long one.
        *(ended(200, flags=flag, progress=each) for flag in TIMEOUTS for each in (ANSWERED, SHORT)),
        ended(200, flags="DC,UT", reason="model_timeout"),
        # A server that cannot send the rest of its response waits, or resets the connection.
        *(ended(200, flags=flag) for flag in (*RESETS, "SI")),
        # The client did not send the rest of its request.
        *(ended(503, flags=flag, progress=HALF_SENT) for flag in (*RESETS, *TIMEOUTS)),
        ended(408, flags="SI", reason="request_timeout", progress=HALF_SENT),
        called(None, flags="SI", reason="request_timeout", progress=HALF_SENT),
        ended(500, progress=HALF_SENT),
        # The client sent the rest only after the server had given up.
        ended(500, progress=ANSWERED_EARLY),
        called(StatusCode.INTERNAL, progress=HALF_SENT),
        called(StatusCode.UNAVAILABLE, progress=HALF_SENT),
        ended(0, flags="DC", reason="client_left", progress=UNANSWERED),
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
        ended(413, reason="body_too_large", progress=UNANSWERED),
        ended(403, reason="model_mismatch", progress=UNANSWERED),
        ended(503, reason="conversion_queue_full"),
        # The version has responded, but the gateway could not convert its response.
        *(ended(STATUS[reason], reason=reason) for reason in CONVERSION_REFUSALS),
        ended(503, reason="decision_unavailable", progress=UNANSWERED),
        ended(500, reason="gateway_error"),
        ended(503, flags="UO", reason="overloaded", upstream="", progress=UNANSWERED),
        ended(401, reason="unauthenticated", version="", upstream="", progress=UNANSWERED),
    ],
    ids=str,
)
def test_what_the_gateway_did_counts_neither_way(end: End) -> None:
    assert result(end) is None
