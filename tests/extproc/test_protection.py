"""What the breaker hears of finished requests: what versions did, not what was done to them."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from extproc.counter_table import CounterTable, create
from extproc.protection import FAILED_CALLS, Protection, ProtectionSettings
from extproc.rpc import StatusCode
from extproc.telemetry.entry import NO_CALL, AccessLogEntry, GrpcCall, RequestOutcome
from tests.extproc.decision.requests import document

VERSION = "m/v1"


@pytest.fixture
def protection(tmp_path: Path) -> Protection:
    create(tmp_path / "counters", 1, 10_000)
    made = Protection(CounterTable(tmp_path / "counters", 0), ProtectionSettings())
    asyncio.run(made.apply(document()))
    return made


def ended(
    status: int = 200,
    *,
    flags: str = "",
    reason: str = "stable",
    upstream: str = "127.0.0.1:9001",
    answered: bool = True,
    call: GrpcCall = NO_CALL,
) -> AccessLogEntry:
    outcome = RequestOutcome(
        "POST", "HTTP/2", status, flags, reason, "m", "v1", False, upstream, call
    )
    return AccessLogEntry(outcome, 0, 0, "/", "", 0, 0, 0, 1 if answered else None, "", "", "")


def called(
    code: StatusCode | None, *, checked: bool = True, expired: bool = False, **how: Any
) -> AccessLogEntry:
    """The end of a gRPC client's call."""
    return ended(**how, call=GrpcCall(code, checked, expired))


def counted(protection: Protection, entries: Sequence[AccessLogEntry]) -> tuple[int, float | None]:
    """Volume and error rate after so many requests."""
    protection.record(entries)
    status = protection.breaker.status(time.monotonic())[VERSION]
    return status.volume, status.error_rate


@pytest.mark.parametrize(
    "end",
    [
        ended(500),
        ended(503, reason="model_status"),
        ended(502, reason="bad_model_response"),
        ended(503, flags="UC", reason="model_unreachable"),
        ended(503, flags="UF", reason="model_unreachable", upstream="", answered=False),
        ended(504, flags="UT", reason="model_timeout", answered=False),
        # To a gRPC caller even what Envoy answers itself has the status 200.
        ended(200, flags="UT", reason="model_timeout", answered=False),
        # Held to be converted: nothing of what had begun has reached the client.
        ended(504, flags="UT", reason="model_timeout"),
        ended(200, flags="UR", reason="gateway_error"),
        called(StatusCode.UNKNOWN),
        called(StatusCode.INTERNAL),
        called(StatusCode.UNAVAILABLE),
        called(StatusCode.UNAVAILABLE, status=503),
        called(StatusCode.UNAVAILABLE, checked=False),
        called(StatusCode.DATA_LOSS),
        # Before any deadline that the client had set.
        called(StatusCode.DEADLINE_EXCEEDED),
        called(None, flags="UR"),
        # No deadline excuses a version that does not answer at all.
        called(None, flags="UT", reason="model_timeout", expired=True, answered=False),
        called(None, flags="UF", expired=True, answered=False),
        # OK came too late to be the status of what had begun as an error.
        called(StatusCode.OK, status=500),
    ],
    ids=str,
)
def test_a_version_that_does_not_answer_has_failed(
    protection: Protection, end: AccessLogEntry
) -> None:
    assert counted(protection, [end] * 30) == (30, 1.0)


def test_a_version_that_answers_has_done_well(protection: Protection) -> None:
    ends = [ended(200), ended(404), ended(429, reason="model_status"), ended(101)]
    ends += [
        called(code) for code in StatusCode if code not in FAILED_CALLS | {StatusCode.CANCELLED}
    ]
    # What Envoy makes of it for a gRPC client of HTTP/1.1.
    ends.append(called(StatusCode.INVALID_ARGUMENT, status=503))
    assert counted(protection, ends * 10) == (10 * len(ends), 0.0)


@pytest.mark.parametrize(
    "end",
    [
        ended(200, flags="UT", reason="gateway_error"),
        ended(200, flags="DC,UT", reason="model_timeout"),
        ended(413, reason="body_too_large", answered=False),
        ended(403, reason="model_mismatch", answered=False),
        ended(503, reason="conversion_queue_full"),
        ended(503, reason="decision_unavailable", answered=False),
        ended(500, reason="gateway_error"),
        ended(0, flags="DC", reason="client_left", answered=False),
        ended(503, flags="UO", reason="overloaded", upstream="", answered=False),
        called(StatusCode.CANCELLED),
        # The client's own deadline had passed.
        called(StatusCode.DEADLINE_EXCEEDED, expired=True),
        called(StatusCode.UNKNOWN, expired=True),
        called(None, flags="UR", expired=True),
        # It may be that the server could not read what the client had sent.
        called(StatusCode.UNKNOWN, checked=False),
        called(StatusCode.INTERNAL, checked=False),
    ],
    ids=str,
)
def test_what_a_client_or_the_gateway_did_counts_neither_for_nor_against_it(
    protection: Protection, end: AccessLogEntry
) -> None:
    assert counted(protection, [end] * 30) == (0, None)
