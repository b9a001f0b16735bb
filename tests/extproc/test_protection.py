"""Breaker and limits of a worker follow the policy, and keep counts and budgets."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from extproc.breaker import BreakerState
from extproc.counter_table import CounterTable, create
from extproc.decision import Admission, Decision, Refusal
from extproc.limits import Budgets
from extproc.limits.arithmetic import Algorithm, Limit
from extproc.limits.ledger import Ledger
from extproc.process.broker import serve_budgets
from extproc.protection import Protection, ProtectionSettings, RequestProtection, request_view
from extproc.services.budgets import BudgetService
from extproc.telemetry.entry import NO_GRPC_OUTCOME, AccessLogEntry, Progress, RequestOutcome
from sluice.contract.names import VIDEO_CLUSTER
from tests.extproc.decision.requests import admitted, document, make_policy, make_request
from tests.extproc.policy.received import protect

VERSION = "m/v1"


ANSWERED = Progress(
    request_received=True, received_first=True, response_started=True, response_short=False
)


@pytest.fixture
def protection(tmp_path: Path) -> Protection:
    create(tmp_path / "counters", 1, 10_000)
    made = Protection(CounterTable(tmp_path / "counters", 0), ProtectionSettings())
    asyncio.run(protect(made, document()))
    return made


def ended(status: int, *, reason: str = "stable") -> AccessLogEntry:
    outcome = RequestOutcome(
        "POST", "HTTP/2", status, "", reason, "m", "v1", False, "127.0.0.1:9001", NO_GRPC_OUTCOME
    )
    return AccessLogEntry(outcome, ANSWERED, 0, 0, 1, 0, 0, "", "/", "", "", "", "")


def test_the_breaker_counts_successes_and_failures_of_the_version(protection: Protection) -> None:
    gateway_refusals = [ended(413, reason="body_too_large")] * 7
    protection.record([ended(200), ended(500), *gateway_refusals, ended(500), ended(404)] * 10)
    status = protection.breaker.active(time.monotonic())[VERSION]
    assert (status.volume, status.error_rate) == (40, 0.5)


def test_failures_of_staged_envoys_open_no_breaker_of_the_policy_in_force(
    protection: Protection,
) -> None:
    """But that of a version which only the staged policy has."""
    before, after = document(), document({"m": {}, "n": {}})
    asyncio.run(protect(protection, before, after))
    failed = ended(500)
    new = [failed._replace(outcome=replace(failed.outcome, model="n"))] * 30
    protection.record_staged([*[ended(500)] * 30, *new])
    assert protection.failing() == {"n/v1"}
    protection.record([ended(500)] * 30)
    assert protection.failing() == {"n/v1", VERSION}


def test_an_open_breaker_refuses_no_video_because_each_frame_passes_it(
    protection: Protection,
) -> None:
    open_breaker(protection)
    assert protection.failing() == {VERSION}
    video = replace(ADMISSION, video_cluster=VIDEO_CLUSTER)
    # A few requests are admitted as probes.
    assert any(protection.check_breaker(ADMISSION) for _ in range(10))
    assert not any(protection.check_breaker(video) for _ in range(10))


RULES = [{"name": "each", "key": ["subject"], "rate": 3, "per": "hour"}]
DOMAINS = {"mesh": {"descriptors": [{"key": "a", "rate_limit": {"requests_per_unit": 1}}]}}
ADMISSION = admitted(make_policy(), make_request())


async def decided(protection: RequestProtection) -> Decision:
    decision = protection.admit(ADMISSION, {}, has_body=False)
    return decision if isinstance(decision, Admission | Refusal) else await decision


def open_breaker(protection: Protection) -> None:
    protection.record([ended(500)] * 30)


def breaker_state(protection: Protection) -> BreakerState:
    return protection.breaker.active(time.monotonic())[VERSION].state


@pytest.mark.anyio
async def test_a_policy_whose_backend_cannot_be_configured_changes_nothing(
    protection: Protection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_PASSWORD", raising=False)
    await protect(protection, document(limits={"rules": RULES, "domains": DOMAINS}))
    before = protection.limiter, protection.budgets, protection.descriptor_limiter.settings
    backend = {
        "kind": "redis",
        "urls": ["redis://127.0.0.1:1/0"],
        "password_env": "REDIS_PASSWORD",
    }
    unusable = document(
        {"m": {"breaker": {"enabled": False}}}, limits={"backend": backend, "headers": False}
    )
    with pytest.raises(ValueError) as refused:
        await protection.prepare(unusable.limits)
    assert str(refused.value) == (
        "limits.backend.password_env names a variable that is not set in this process"
    )
    after = protection.limiter, protection.budgets, protection.descriptor_limiter.settings
    assert after == before
    decisions = [await decided(protection) for _ in range(4)]
    assert [type(decision) for decision in decisions] == [Admission] * 3 + [Refusal]
    assert "ratelimit" in dict(decisions[0].limit_headers)
    open_breaker(protection)
    assert breaker_state(protection) is BreakerState.OPEN


@pytest.mark.anyio
async def test_a_prepared_policy_is_in_force_only_once_it_is_committed(
    protection: Protection,
) -> None:
    prepared = await protection.prepare(document(limits={"rules": RULES}).limits)
    assert [type(await decided(protection)) for _ in range(4)] == [Admission] * 4
    protection.commit(prepared, {})
    assert type(await decided(protection)) is Admission
    assert protection.rule_counts["each"].admitted == 1


@pytest.mark.anyio
async def test_a_rule_of_the_same_name_keeps_its_counts(protection: Protection) -> None:
    await protect(protection, document(limits={"rules": RULES}))
    await decided(protection)
    prepared = await protection.prepare(
        document(limits={"rules": [{**RULES[0], "rate": 5}]}).limits
    )
    await decided(protection)
    protection.commit(prepared, {})
    assert [type(await decided(protection)) for _ in range(2)] == [Admission, Refusal]
    counts = protection.rule_counts["each"]
    assert (counts.admitted, counts.refused) == (3, 1)


@pytest.mark.anyio
async def test_a_new_policy_keeps_the_shares_of_clients(protection: Protection) -> None:
    rule = {"name": "chosen", "key": ["header:x"], "rate": 1, "per": "hour"}
    limits = {"rules": [rule], "backend": {"max_keys": 2000}}

    def admits(value: int) -> bool:
        headers = {"x": str(value).encode()}
        return isinstance(protection.admit(ADMISSION, headers, has_body=False), Admission)

    await protect(protection, document(limits=limits))
    assert all(admits(value) for value in range(2000 // 8 + 1))
    await protect(protection, document(limits={**limits, "headers": False}))
    assert not admits(2000)


@pytest.mark.anyio
async def test_a_new_policy_keeps_the_state_of_the_breaker(protection: Protection) -> None:
    open_breaker(protection)
    await protect(protection, document(limits={"rules": RULES}))
    status = protection.breaker.active(time.monotonic())[VERSION]
    assert (status.state, status.volume) == (BreakerState.OPEN, 30)


async def admitted_of(protection: RequestProtection, count: int) -> int:
    """How many of so many requests the limits admit."""
    return sum([isinstance(await decided(protection), Admission) for _ in range(count)])


@pytest.mark.anyio
async def test_without_a_stage_the_staged_limits_are_those_in_force(
    protection: Protection,
) -> None:
    await protect(protection, document(limits={"rules": RULES}))
    assert await admitted_of(protection, 2) == 2
    assert await admitted_of(protection.staged, 2) == 1


@pytest.mark.anyio
async def test_both_policies_have_their_rules_over_the_same_budgets(
    protection: Protection,
) -> None:
    more = [{**RULES[0], "rate": 5}]
    await protect(protection, document(limits={"rules": RULES}), document(limits={"rules": more}))
    # Together never more than the larger one admits.
    assert await admitted_of(protection.staged, 2) == 2
    assert await admitted_of(protection, 4) == 3
    assert await admitted_of(protection.staged, 1) == 0
    await protect(protection, document(limits={"rules": RULES}), document())
    assert await admitted_of(protection, 2) == 0
    assert await admitted_of(protection.staged, 2) == 2
    await protect(protection, document(), document(limits={"rules": RULES}))
    assert await admitted_of(protection, 2) == 2
    assert await admitted_of(protection.staged, 2) == 0


@pytest.mark.anyio
async def test_a_rule_of_both_policies_has_one_count_which_never_falls(
    protection: Protection,
) -> None:
    each, other = ({**RULES[0], "name": name, "rate": 10} for name in ("each", "other"))
    before = document(limits={"rules": [each]})
    after = document(limits={"rules": [each, other]})
    await protect(protection, before)
    await admitted_of(protection, 1)
    await protect(protection, before, after)
    await admitted_of(protection, 1)
    await admitted_of(protection.staged, 2)
    counts = {name: each.admitted for name, each in protection.rule_counts.items()}
    assert counts == {"each": 4, "other": 2}
    await protect(protection, after)
    await admitted_of(protection, 1)
    counts = {name: each.admitted for name, each in protection.rule_counts.items()}
    assert counts == {"each": 5, "other": 3}
    await protect(protection, before)
    assert {name: each.admitted for name, each in protection.rule_counts.items()} == {"each": 5}


@pytest.mark.anyio
async def test_a_stage_opens_no_backend_and_sends_the_headers_of_its_policy(
    protection: Protection,
) -> None:
    await protect(protection, document(limits={"rules": RULES}))
    budgets = protection.budgets
    backend = {"kind": "redis", "urls": ["redis://127.0.0.1:1/0"], "password_env": "UNSET_HERE"}
    staged = document(limits={"rules": RULES, "backend": backend, "headers": False})
    await protect(protection, document(limits={"rules": RULES}), staged)
    assert protection.budgets is budgets
    assert "ratelimit" in dict((await decided(protection)).limit_headers)
    assert (await decided(protection.staged)).limit_headers == ()


@dataclass
class Shared:
    """Protection of a worker that shares its budgets with other workers, and their ledger."""

    protection: Protection
    ledger: Ledger

    async def lease(self, budgets: Budgets) -> None:
        """Have tokens of a budget leased."""
        pending = budgets.fetch(self.now(), LIMIT, "key", 5)
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
    async with serve_budgets(tmp_path / "broker", BudgetService(ledger, protection.clock)):
        yield Shared(protection, ledger)
    table.close()


@pytest.mark.anyio
async def test_a_discarded_policy_closes_the_backend_that_it_opened(shared: Shared) -> None:
    prepared = await shared.protection.prepare(document().limits)
    await shared.lease(prepared.budgets)
    await prepared.discard()
    assert shared.free() == LIMIT.capacity


@pytest.mark.anyio
async def test_a_policy_with_the_same_backend_keeps_the_leases(shared: Shared) -> None:
    await protect(shared.protection, document())
    budgets = shared.protection.budgets
    await shared.lease(budgets)
    await (await shared.protection.prepare(document(limits={"rules": RULES}).limits)).discard()
    await protect(shared.protection, document(limits={"rules": RULES}))
    assert shared.protection.budgets is budgets
    assert shared.free() < LIMIT.capacity
    await shared.protection.close()


@pytest.mark.anyio
async def test_a_replaced_backend_returns_its_tokens(shared: Shared) -> None:
    await protect(shared.protection, document())
    await shared.lease(shared.protection.budgets)
    await protect(shared.protection, document(limits={"backend": {"max_keys": 5000}}))
    await shared.protection.close()
    assert shared.free() == LIMIT.capacity


@pytest.mark.anyio
async def test_an_inspection_shows_the_breaker_and_the_limits_and_changes_neither(
    protection: Protection,
) -> None:
    await protect(protection, document(limits={"rules": RULES}))
    view = request_view(ADMISSION, {}, has_body=False)
    assert type(await decided(protection)) is Admission
    for _ in range(3):
        breaker, (rule,) = await protection.inspect(VERSION, view)
        assert breaker is not None
        assert (breaker.state, rule.remaining) == (BreakerState.CLOSED, 2)
    open_breaker(protection)
    for _ in range(3):
        breaker, _ = await protection.inspect(VERSION, view)
        assert breaker is not None
        assert breaker.state is BreakerState.OPEN
    # The inspections were no probes, so this request is the first.
    assert type(await decided(protection)) is Admission
    assert type(await decided(protection)) is Refusal
    assert (await protection.inspect("none/v1", view))[0] is None
