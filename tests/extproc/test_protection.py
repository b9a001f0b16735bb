"""What the breaker hears of finished requests: what versions did, not what was done to them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from extproc.breaker import BreakerState
from extproc.counter_table import CounterTable, create
from extproc.decision import Admission, Decision, Refusal
from extproc.limits import Budgets
from extproc.limits.arithmetic import Algorithm, Limit
from extproc.limits.broker import Broker
from extproc.limits.ledger import Ledger
from extproc.protection import FAILED_CALLS, Protection, ProtectionSettings
from extproc.rpc import StatusCode
from extproc.telemetry.entry import NO_CALL, AccessLogEntry, GrpcCall, RequestOutcome
from sluice.config import PolicyDocument
from tests.extproc.decision.requests import admitted, document, policy, request

VERSION = "m/v1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def protection(tmp_path: Path) -> Protection:
    create(tmp_path / "counters", 1, 10_000)
    made = Protection(CounterTable(tmp_path / "counters", 0), ProtectionSettings())
    asyncio.run(made.prepare(document())).commit()
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


RULES = [{"name": "each", "key": ["subject"], "rate": 3, "per": "hour"}]
DOMAINS = {"mesh": {"descriptors": [{"key": "a", "rate_limit": {"requests_per_unit": 1}}]}}
ADMISSION = admitted(policy(), request())


async def follow(protection: Protection, by: PolicyDocument) -> None:
    (await protection.prepare(by)).commit()


async def decided(protection: Protection) -> Decision:
    decision = protection.admit(ADMISSION, {}, has_body=False)
    return decision if isinstance(decision, Admission | Refusal) else await decision


def open_breaker(protection: Protection) -> None:
    protection.record([ended(500)] * 30)


@pytest.mark.anyio
async def test_a_policy_whose_backend_cannot_be_configured_changes_nothing(
    protection: Protection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_PASSWORD", raising=False)
    await follow(protection, document(limits={"rules": RULES, "domains": DOMAINS}))
    before = protection.limiter, protection.budgets, protection.rate_limits.budgets
    backend = {
        "kind": "redis",
        "urls": ["redis://127.0.0.1:1/0"],
        "password_env": "REDIS_PASSWORD",
    }
    unusable = document(
        {"m": {"breaker": {"enabled": False}}}, limits={"backend": backend, "headers": False}
    )
    with pytest.raises(ValueError) as refused:
        await protection.prepare(unusable)
    assert str(refused.value) == (
        "limits.backend.password_env names REDIS_PASSWORD, which is not set in this process"
    )
    assert (protection.limiter, protection.budgets, protection.rate_limits.budgets) == before
    decisions = [await decided(protection) for _ in range(4)]
    assert [type(decision) for decision in decisions] == [Admission] * 3 + [Refusal]
    assert "ratelimit" in dict(decisions[0].limit_headers)
    open_breaker(protection)
    assert type(await decided(protection)) is Refusal


@pytest.mark.anyio
async def test_a_prepared_policy_is_in_force_only_once_it_is_committed(
    protection: Protection,
) -> None:
    prepared = await protection.prepare(document(limits={"rules": RULES}))
    assert [type(await decided(protection)) for _ in range(4)] == [Admission] * 4
    prepared.commit()
    assert type(await decided(protection)) is Admission
    assert protection.rule_counts["each"].admitted == 1


@pytest.mark.anyio
async def test_a_rule_of_the_same_name_goes_on_counting(protection: Protection) -> None:
    await follow(protection, document(limits={"rules": RULES}))
    await decided(protection)
    prepared = await protection.prepare(document(limits={"rules": [{**RULES[0], "rate": 5}]}))
    await decided(protection)
    prepared.commit()
    assert [type(await decided(protection)) for _ in range(2)] == [Admission, Refusal]
    counts = protection.rule_counts["each"]
    assert (counts.admitted, counts.refused) == (3, 1)


@pytest.mark.anyio
async def test_a_new_policy_forgets_nothing_of_the_breaker(protection: Protection) -> None:
    open_breaker(protection)
    await follow(protection, document(limits={"rules": RULES}))
    status = protection.breaker.status(time.monotonic())[VERSION]
    assert (status.state, status.volume) == (BreakerState.OPEN, 30)


@dataclass
class Shared:
    """Protection of a worker that shares its budgets with others, and the ledger of them all."""

    protection: Protection
    ledger: Ledger

    async def lease(self, budgets: Budgets) -> None:
        """Have tokens of a budget leased."""
        pending = budgets.ready(self.now(), LIMIT, "key", 5)
        assert pending is not None
        await pending
        assert self.free() < LIMIT.capacity

    def free(self) -> int:
        return self.ledger.budget(self.now(), LIMIT, "key").free(self.now())

    def now(self) -> int:
        return int(self.protection.clock() * 1_000_000)


LIMIT = Limit(Algorithm.FIXED_WINDOW, 100, 86_400 * 1_000_000, 100)


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    create(tmp_path / "counters", 1, 10_000)
    table = CounterTable(tmp_path / "counters", 0)
    ledger = Ledger(1000)
    protection = Protection(table, ProtectionSettings(tmp_path / "broker"))
    async with Broker(tmp_path / "broker", ledger, protection.clock):
        yield Shared(protection, ledger)
    table.close()


@pytest.mark.anyio
async def test_a_discarded_policy_closes_the_backend_that_it_opened(shared: Shared) -> None:
    prepared = await shared.protection.prepare(document())
    await shared.lease(prepared.budgets)
    await prepared.discard()
    assert shared.free() == LIMIT.capacity


@pytest.mark.anyio
async def test_a_policy_with_the_same_backend_keeps_what_is_leased(shared: Shared) -> None:
    await follow(shared.protection, document())
    budgets = shared.protection.budgets
    await shared.lease(budgets)
    await (await shared.protection.prepare(document(limits={"rules": RULES}))).discard()
    await follow(shared.protection, document(limits={"rules": RULES}))
    assert shared.protection.budgets is budgets
    assert shared.free() < LIMIT.capacity
    await shared.protection.close()


@pytest.mark.anyio
async def test_a_replaced_backend_returns_its_tokens(shared: Shared) -> None:
    await follow(shared.protection, document())
    await shared.lease(shared.protection.budgets)
    await follow(shared.protection, document(limits={"backend": {"max_keys": 5000}}))
    await shared.protection.close()
    assert shared.free() == LIMIT.capacity
