"""A worker's leases: no waiting in steady state, and nobody stuck when the store is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from extproc.limits import steady_clock
from extproc.limits.arithmetic import Algorithm, LeaseGrant, LeaseRequest, Limit
from extproc.limits.leases import BACKOFF, LeasedBudgets, LeaseSettings
from extproc.limits.ledger import Ledger
from extproc.limits.limiter import Limiter, LimitVerdict
from extproc.limits.redis import redis_store
from extproc.limits.rules import RequestView
from extproc.limits.store import StoreError
from sluice.config.limit_backend import LimitBackend
from sluice.config.limits import LimitRule
from tests.extproc.limits.conftest import RedisServer

SECOND = 1_000_000
SETTINGS = LeaseSettings(timeout=1.0)
pytestmark = pytest.mark.anyio
VIEW = RequestView(subject="alice")


class LedgerStore:
    """A ledger behind a switch: it can be away, or withhold its answers until told otherwise."""

    def __init__(self) -> None:
        self.ledger = Ledger(1000)
        self.clock = steady_clock()
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.asks: list[LeaseRequest] = []
        self.exchanged = asyncio.Event()

    async def exchange(self, asks: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        self.asks += asks
        await self.answering.wait()
        if self.away:
            raise StoreError("away")
        grants = self.ledger.exchange(int(self.clock() * SECOND), asks)
        self.exchanged.set()
        return grants

    async def close(self) -> None:
        pass

    async def next_exchange(self) -> None:
        self.exchanged.clear()
        await self.exchanged.wait()
        await asyncio.sleep(0)


@asynccontextmanager
async def limiter(
    store: LedgerStore, rule: LimitRule, settings: LeaseSettings = SETTINGS
) -> AsyncIterator[Limiter]:
    async with LeasedBudgets(store, settings, store.clock) as budgets:
        yield Limiter([rule], budgets)


async def admitted(found: Limiter, store: LedgerStore, requests: int) -> int:
    return sum([(await verdict(found, store)).admitted for _ in range(requests)])


def free(store: LedgerStore, limit: Limit, key: str) -> int:
    now = int(store.clock() * SECOND)
    return store.ledger.budget(now, limit, key).free(now)


async def verdict(found: Limiter, store: LedgerStore) -> LimitVerdict:
    answer = found.check(store.clock(), VIEW)
    return answer if isinstance(answer, LimitVerdict) else await answer


def at_once(found: Limiter, store: LedgerStore) -> LimitVerdict:
    answer = found.check(store.clock(), VIEW)
    assert isinstance(answer, LimitVerdict)
    return answer


async def test_only_the_first_request_of_a_key_waits() -> None:
    store = LedgerStore()
    async with limiter(store, LimitRule(name="r", rate=10_000)) as found:
        first = found.check(store.clock(), VIEW)
        assert not isinstance(first, LimitVerdict)
        assert (await first).admitted
        for _ in range(20):
            assert await admitted(found, store, 1) == 1
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        for _ in range(200):
            assert at_once(found, store).admitted
            await asyncio.sleep(0.001)


async def test_leases_grow_with_demand_until_hardly_a_request_waits() -> None:
    store = LedgerStore()
    async with LeasedBudgets(store, SETTINGS, store.clock) as budgets:
        found = Limiter([LimitRule(name="r", rate=1_000_000)], budgets)
        for _ in range(400):
            assert await admitted(found, store, 50) == 50
            await asyncio.sleep(0)
    assert budgets.counts.waited < 200


async def test_concurrent_first_requests_all_get_a_token() -> None:
    store = LedgerStore()
    async with limiter(store, LimitRule(name="r", rate=1000)) as found:
        verdicts = await asyncio.gather(*(verdict(found, store) for _ in range(50)))
    assert all(each.admitted for each in verdicts)


async def test_a_used_up_limit_refuses_without_asking() -> None:
    store = LedgerStore()
    async with limiter(store, LimitRule(name="r", rate=3, per="hour")) as found:
        assert await admitted(found, store, 4) == 3
        asked = len(store.asks)
        refusals = [at_once(found, store) for _ in range(100)]
        assert len(store.asks) == asked
    assert {each.admitted for each in refusals} == {False}
    assert {each.retry_after for each in refusals} == {1200}


async def test_a_worker_that_falls_silent_gives_its_tokens_back() -> None:
    store = LedgerStore()
    settings = replace(SETTINGS, lifetime=0.2)
    limit = Limit(Algorithm.TOKEN_BUCKET, 100, 3600 * SECOND, 100)
    async with LeasedBudgets(store, settings, store.clock) as budgets:
        for _ in range(2):
            now = int(store.clock() * SECOND)
            waiting = budgets.fetch(now, limit, "key", 5)
            if waiting is not None:
                await waiting
        assert free(store, limit, "key") < 100
        async with asyncio.timeout(2):
            while free(store, limit, "key") < 100:
                await store.next_exchange()


async def test_tokens_go_back_when_a_worker_stops() -> None:
    store = LedgerStore()
    rule = LimitRule(name="r", rate=100, per="hour")
    async with limiter(store, rule) as found:
        assert await admitted(found, store, 3) == 3
    assert free(store, store.asks[0].limit, store.asks[0].key) == 97


async def test_an_evicted_holding_gives_its_tokens_back() -> None:
    store = LedgerStore()
    settings = replace(SETTINGS, max_keys=1)
    rule = LimitRule(name="r", rate=100, per="hour", key=("subject",))
    async with LeasedBudgets(store, settings, store.clock) as budgets:
        found = Limiter([rule], budgets)
        assert await admitted(found, store, 3) == 3
        answer = found.check(store.clock(), RequestView(subject="bob"))
        assert not isinstance(answer, LimitVerdict)
        assert (await answer).admitted
    assert free(store, store.asks[0].limit, store.asks[0].key) == 97


async def test_a_store_that_does_not_answer_delays_one_request_until_the_timeout() -> None:
    store = LedgerStore()
    store.answering.clear()
    settings = replace(SETTINGS, timeout=0.05)
    async with limiter(store, LimitRule(name="r", rate=1000), settings) as found:
        async with asyncio.timeout(0.5):
            assert (await verdict(found, store)).admitted
        assert at_once(found, store).admitted


async def test_failing_open_enforces_the_workers_share_of_the_limit() -> None:
    store = LedgerStore()
    store.away = True
    settings = replace(SETTINGS, fail_open_share=0.25)
    async with limiter(store, LimitRule(name="r", rate=100, per="hour"), settings) as found:
        assert await admitted(found, store, 100) == 25


async def test_failing_closed_refuses_and_says_that_no_limit_was_reached() -> None:
    store = LedgerStore()
    store.away = True
    settings = replace(SETTINGS, fail_open=False)
    async with limiter(store, LimitRule(name="r", rate=100), settings) as found:
        refused = await verdict(found, store)
    assert (refused.admitted, refused.unavailable, refused.retry_after) == (False, True, 1)


async def test_a_store_that_comes_back_is_used_again_without_anybody_waiting() -> None:
    store = LedgerStore()
    store.away = True
    settings = replace(SETTINGS, fail_open=False)
    async with limiter(store, LimitRule(name="r", rate=100), settings) as found:
        assert not (await verdict(found, store)).admitted
        store.away = False
        await asyncio.sleep(BACKOFF)
        assert not at_once(found, store).admitted
        await store.next_exchange() if not store.exchanged.is_set() else None
        await asyncio.sleep(0.01)
        assert at_once(found, store).admitted


async def test_a_store_that_was_slow_once_is_asked_again_by_the_next_request() -> None:
    store = LedgerStore()
    settings = replace(SETTINGS, timeout=0.01, fail_open=False)
    async with limiter(store, LimitRule(name="r", rate=100), settings) as found:
        store.answering.clear()
        assert (await verdict(found, store)).unavailable
        store.answering.set()
        assert at_once(found, store).unavailable
        await store.next_exchange()
        assert at_once(found, store).admitted


async def ready(budgets: LeasedBudgets, store: LedgerStore, cost: int) -> None:
    """Have the store asked for tokens of a key, and see what it says."""
    limit = Limit(Algorithm.TOKEN_BUCKET, 100, 3600 * SECOND, 100)
    waiting = budgets.fetch(int(store.clock() * SECOND), limit, "key", cost)
    assert waiting is not None
    await waiting


@pytest.mark.parametrize("away", [True, False], ids=["away", "slow"])
async def test_a_store_that_is_back_is_noticed_without_a_request(away: bool) -> None:
    store = LedgerStore()
    settings = replace(SETTINGS, timeout=0.01, lifetime=0.2)
    async with LeasedBudgets(store, settings, store.clock) as budgets:
        store.away = away
        if not away:
            store.answering.clear()
        await ready(budgets, store, 1)
        assert not budgets.available
        store.away = False
        store.answering.set()
        await asyncio.wait_for(store.next_exchange(), 2)
        assert budgets.available
        assert store.asks[-1].want == 0


async def test_tokens_that_expired_while_the_store_was_away_are_not_held_when_it_is_back() -> None:
    store = LedgerStore()
    settings = replace(SETTINGS, lifetime=0.2)
    async with LeasedBudgets(store, settings, store.clock) as budgets:
        await ready(budgets, store, 5)
        store.away = True
        await ready(budgets, store, 6)
        assert (store.asks[-1].held, budgets.available) == (5, False)
        await asyncio.sleep(settings.lifetime)
        store.away = False
        await asyncio.wait_for(store.next_exchange(), 2)
        assert budgets.available
        assert store.asks[-1].held == 0


@pytest.mark.parametrize("outage", ["killed", "suspended"])
async def test_no_request_fails_open_while_redis_is_away_under_load(
    redis_server: RedisServer, outage: str
) -> None:
    backend = LimitBackend(kind="redis", urls=(redis_server.url,))
    clock = steady_clock()
    slowest = 0.0
    async with LeasedBudgets(redis_store(backend), LeaseSettings(), clock) as budgets:
        found = Limiter([LimitRule(name="r", rate=10_000)], budgets)

        async def load(until: float) -> None:
            nonlocal slowest
            while clock() < until:
                started = clock()
                answer = found.check(started, VIEW)
                answer = answer if isinstance(answer, LimitVerdict) else await answer
                assert answer.admitted
                slowest = max(slowest, clock() - started)
                await asyncio.sleep(0.001)

        await load(clock() + 0.3)
        assert budgets.available
        redis_server.kill() if outage == "killed" else redis_server.suspend()
        await load(clock() + 0.6)
        assert not budgets.available
        redis_server.start() if outage == "killed" else redis_server.resume()
        await load(clock() + 0.6)
        assert budgets.available
    assert slowest < 0.3


HOURLY = Limit(Algorithm.FIXED_WINDOW, 3, 3600 * SECOND, 3)


async def spent(budgets: LeasedBudgets, store: LedgerStore, cost: int) -> bool:
    """Whether a request was admitted, which then has paid; what it fetched ahead has arrived."""
    pending = budgets.fetch(int(store.clock() * SECOND), HOURLY, "k", cost)
    if pending is not None:
        await pending
    now = int(store.clock() * SECOND)
    standing = budgets.state(now, HOURLY, "k", cost)
    if standing.admits:
        budgets.spend(now, HOURLY, "k", cost)
    else:
        budgets.drain(now, HOURLY, "k")
    for _ in range(10):
        await asyncio.sleep(0)
    return standing.admits


async def test_what_is_left_of_a_small_budget_is_any_workers() -> None:
    store = LedgerStore()
    async with (
        LeasedBudgets(store, SETTINGS, store.clock) as one,
        LeasedBudgets(store, SETTINGS, store.clock) as other,
    ):
        turns = [one, other, other, one, other]
        answers = [await spent(budgets, store, 1) for budgets in turns]
    assert answers == [True, True, True, False, False]


async def test_asking_for_nothing_takes_nothing_and_sees_what_others_spent() -> None:
    store = LedgerStore()
    settings = replace(SETTINGS, interval=1e-6)
    async with (
        LeasedBudgets(store, settings, store.clock) as one,
        LeasedBudgets(store, settings, store.clock) as other,
    ):
        assert await spent(one, store, 0)
        assert await spent(other, store, 2)
        assert await spent(one, store, 0)
        assert not await spent(other, store, 2)
        assert not await spent(one, store, 0)
