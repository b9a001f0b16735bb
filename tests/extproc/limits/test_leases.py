"""Leases keep requests from waiting for the store, and tokens from being lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from extproc.limits.arithmetic import Algorithm, LeaseGrant, LeaseRequest, Limit
from extproc.limits.leases import BACKOFF, LeasedBudgets, LeaseSettings
from extproc.limits.ledger import Ledger
from extproc.limits.limiter import Limiter, LimitVerdict
from extproc.limits.rules import RequestView
from extproc.limits.store import StoreError
from sluice.config.limits import LimitRule
from tests.extproc.limits.virtual_time import VirtualTimeLoop

SECOND = 1_000_000
LATENCY = 0.002
SETTINGS = LeaseSettings()
VIEW = RequestView(subject="alice")
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class LedgerStore:
    """A ledger that responds after a while, fails while it is `away`, or does not respond."""

    def __init__(self) -> None:
        self.ledger = Ledger(1000)
        self.clock = asyncio.get_running_loop().time
        self.away = False
        self.responding = asyncio.Event()
        self.responding.set()
        self.requests: list[LeaseRequest] = []
        self.exchanged = asyncio.Event()
        self.exchanges_at_close = 0

    async def exchange(self, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        self.requests += requests
        await asyncio.sleep(LATENCY)
        await self.responding.wait()
        if self.away:
            raise StoreError("away")
        grants = self.ledger.exchange(int(self.clock() * SECOND), requests)
        self.exchanged.set()
        return grants

    async def close(self) -> None:
        self.exchanges_at_close = len(self.requests)

    async def next_exchange(self) -> None:
        """Wait until an exchange has ended and the worker has its grants."""
        self.exchanged.clear()
        await self.exchanged.wait()
        await asyncio.sleep(0)

    def free(self, limit: Limit, key: str) -> int:
        now = int(self.clock() * SECOND)
        return self.ledger.budget(now, limit, key).free(now)

    def free_of_first_request(self) -> int:
        return self.free(self.requests[0].limit, self.requests[0].key)


@pytest.fixture
async def store() -> LedgerStore:
    return LedgerStore()


@asynccontextmanager
async def limiter(
    store: LedgerStore, rule: LimitRule, settings: LeaseSettings = SETTINGS
) -> AsyncIterator[Limiter]:
    async with LeasedBudgets(store, settings, store.clock) as budgets:
        yield Limiter([rule], budgets)


async def verdict(limiter: Limiter, store: LedgerStore, view: RequestView = VIEW) -> LimitVerdict:
    found = limiter.check(store.clock(), view)
    return found if isinstance(found, LimitVerdict) else await found


def verdict_at_once(limiter: Limiter, store: LedgerStore) -> LimitVerdict:
    found = limiter.check(store.clock(), VIEW)
    assert isinstance(found, LimitVerdict)
    return found


async def admitted(limiter: Limiter, store: LedgerStore, requests: int) -> int:
    return sum([(await verdict(limiter, store)).admitted for _ in range(requests)])


async def test_only_the_first_requests_of_a_key_wait(store: LedgerStore) -> None:
    async with limiter(store, LimitRule(name="r", rate=10_000)) as found:
        first = found.check(store.clock(), VIEW)
        assert not isinstance(first, LimitVerdict)
        assert (await first).admitted
        assert await admitted(found, store, 20) == 20
        for _ in range(1000):
            assert verdict_at_once(found, store).admitted
            await asyncio.sleep(0.001)


async def test_leases_grow_with_the_demand_until_no_request_waits(store: LedgerStore) -> None:
    async with LeasedBudgets(store, SETTINGS, store.clock) as budgets:
        limiter = Limiter([LimitRule(name="r", rate=1_000_000)], budgets)

        async def load() -> int:
            """Send 50,000 requests per second for half a second; returns how many waited."""
            before = budgets.counts.waited
            for _ in range(500):
                assert await admitted(limiter, store, 50) == 50
                await asyncio.sleep(0.001)
            return budgets.counts.waited - before

        assert await load() > 0
        assert await load() == 0


async def test_concurrent_first_requests_are_all_admitted(store: LedgerStore) -> None:
    async with limiter(store, LimitRule(name="r", rate=1000)) as found:
        verdicts = await asyncio.gather(*(verdict(found, store) for _ in range(50)))
    assert all(each.admitted for each in verdicts)


async def test_an_empty_budget_refuses_without_asking_the_store(store: LedgerStore) -> None:
    async with limiter(store, LimitRule(name="r", rate=3, per="hour")) as found:
        assert await admitted(found, store, 4) == 3
        requests = len(store.requests)
        refusals = [verdict_at_once(found, store) for _ in range(100)]
        assert len(store.requests) == requests
    assert {each.admitted for each in refusals} == {False}
    assert {each.retry_after for each in refusals} == {1200}


async def test_an_unused_lease_is_returned(store: LedgerStore) -> None:
    limit = Limit(Algorithm.TOKEN_BUCKET, 100, 3600 * SECOND, 100)
    async with LeasedBudgets(store, SETTINGS, store.clock) as budgets:
        for _ in range(2):
            fetch = budgets.fetch(int(store.clock() * SECOND), limit, "key", 5)
            if fetch is not None:
                await fetch
        assert store.free(limit, "key") < 100
        while store.free(limit, "key") < 100:
            await store.next_exchange()


async def test_a_worker_that_stops_returns_its_tokens(store: LedgerStore) -> None:
    async with limiter(store, LimitRule(name="r", rate=100, per="hour")) as found:
        assert await admitted(found, store, 3) == 3
    assert store.free_of_first_request() == 97


async def test_waiting_requests_do_not_use_a_store_that_is_closed(store: LedgerStore) -> None:
    """The store would open a connection that nobody closes."""
    async with limiter(store, LimitRule(name="r", rate=1000, burst=8)) as found:
        checks = [found.check(store.clock(), VIEW) for _ in range(30)]
        waiting = [asyncio.ensure_future(c) for c in checks if not isinstance(c, LimitVerdict)]
    assert waiting
    await asyncio.gather(*waiting)
    await asyncio.sleep(10)
    assert len(store.requests) == store.exchanges_at_close


async def test_an_evicted_lease_is_returned(store: LedgerStore) -> None:
    settings = replace(SETTINGS, max_keys=1)
    rule = LimitRule(name="r", rate=100, per="hour", key=("subject",))
    async with limiter(store, rule, settings) as found:
        assert await admitted(found, store, 3) == 3
        assert (await verdict(found, store, RequestView(subject="bob"))).admitted
    assert store.free_of_first_request() == 97


async def test_a_store_that_does_not_respond_delays_one_request_until_the_timeout(
    store: LedgerStore,
) -> None:
    store.responding.clear()
    async with limiter(store, LimitRule(name="r", rate=1000)) as found:
        started = store.clock()
        assert (await verdict(found, store)).admitted
        assert store.clock() - started == pytest.approx(SETTINGS.timeout)
        assert verdict_at_once(found, store).admitted


async def test_fail_open_admits_the_workers_share_of_the_limit(store: LedgerStore) -> None:
    store.away = True
    settings = replace(SETTINGS, fail_open_share=0.25)
    async with limiter(store, LimitRule(name="r", rate=100, per="hour"), settings) as found:
        assert await admitted(found, store, 100) == 25


async def test_fail_closed_refuses_because_the_store_is_unavailable(store: LedgerStore) -> None:
    store.away = True
    settings = replace(SETTINGS, fail_open=False)
    async with limiter(store, LimitRule(name="r", rate=100), settings) as found:
        refused = await verdict(found, store)
    assert (refused.admitted, refused.unavailable, refused.retry_after) == (False, True, 1)


async def test_no_request_waits_for_a_store_that_failed_and_is_back(store: LedgerStore) -> None:
    store.away = True
    settings = replace(SETTINGS, fail_open=False)
    async with limiter(store, LimitRule(name="r", rate=100), settings) as found:
        assert not (await verdict(found, store)).admitted
        store.away = False
        await asyncio.sleep(BACKOFF)
        assert not verdict_at_once(found, store).admitted
        await store.next_exchange()
        assert verdict_at_once(found, store).admitted


async def test_after_a_timeout_the_next_request_tries_the_store_again(store: LedgerStore) -> None:
    settings = replace(SETTINGS, fail_open=False)
    async with limiter(store, LimitRule(name="r", rate=100), settings) as found:
        store.responding.clear()
        assert (await verdict(found, store)).unavailable
        store.responding.set()
        assert verdict_at_once(found, store).unavailable
        await store.next_exchange()
        assert verdict_at_once(found, store).admitted


async def fetch(budgets: LeasedBudgets, store: LedgerStore, cost: int) -> None:
    """Fetch tokens of a key, and wait for the store's response."""
    limit = Limit(Algorithm.TOKEN_BUCKET, 100, 3600 * SECOND, 100)
    fetching = budgets.fetch(int(store.clock() * SECOND), limit, "key", cost)
    assert fetching is not None
    await fetching


@pytest.mark.parametrize("away", [True, False], ids=["away", "slow"])
async def test_a_store_that_is_back_is_found_without_a_request(
    store: LedgerStore, away: bool
) -> None:
    async with LeasedBudgets(store, SETTINGS, store.clock) as budgets:
        store.away = away
        if not away:
            store.responding.clear()
        await fetch(budgets, store, 1)
        assert not budgets.available
        store.away = False
        store.responding.set()
        await store.next_exchange()
        assert budgets.available
        assert store.requests[-1].want == 0


async def test_tokens_that_expire_while_the_store_is_away_are_dropped(store: LedgerStore) -> None:
    async with LeasedBudgets(store, SETTINGS, store.clock) as budgets:
        await fetch(budgets, store, 5)
        store.away = True
        await fetch(budgets, store, 6)
        assert (store.requests[-1].held, budgets.available) == (5, False)
        await asyncio.sleep(SETTINGS.lifetime)
        store.away = False
        await store.next_exchange()
        assert budgets.available
        assert store.requests[-1].held == 0


HOURLY = Limit(Algorithm.FIXED_WINDOW, 3, 3600 * SECOND, 3)


async def spend(budgets: LeasedBudgets, store: LedgerStore, cost: int) -> bool:
    """Check a request as the rate limit service does. Returns whether it was admitted."""
    fetching = budgets.fetch(int(store.clock() * SECOND), HOURLY, "k", cost)
    if fetching is not None:
        await fetching
    now = int(store.clock() * SECOND)
    state = budgets.state(now, HOURLY, "k", cost)
    if state.admits:
        budgets.spend(now, HOURLY, "k", cost)
    else:
        budgets.drain(now, HOURLY, "k")
    # Tokens fetched ahead have arrived when the next request comes.
    await asyncio.sleep(2 * LATENCY)
    return state.admits


async def test_the_last_tokens_of_a_small_budget_are_for_any_worker(store: LedgerStore) -> None:
    async with (
        LeasedBudgets(store, SETTINGS, store.clock) as one,
        LeasedBudgets(store, SETTINGS, store.clock) as other,
    ):
        turns = [one, other, other, one, other]
        results = [await spend(budgets, store, 1) for budgets in turns]
    assert results == [True, True, True, False, False]


async def test_a_request_of_cost_0_takes_no_token_and_sees_the_state(store: LedgerStore) -> None:
    settings = replace(SETTINGS, interval=1e-6)
    async with (
        LeasedBudgets(store, settings, store.clock) as one,
        LeasedBudgets(store, settings, store.clock) as other,
    ):
        assert await spend(one, store, 0)
        assert await spend(other, store, 2)
        assert await spend(one, store, 0)
        assert not await spend(other, store, 2)
        assert not await spend(one, store, 0)


async def test_an_inspection_takes_no_tokens(store: LedgerStore) -> None:
    rule = LimitRule(name="r", rate=3, per="hour")
    async with limiter(store, rule) as found:
        for left in (3, 2, 1):
            for _ in range(3):
                (state,) = await found.inspect(store.clock(), VIEW)
                assert (state.admits, state.remaining) == (True, left)
                await asyncio.sleep(1)
            assert (await verdict(found, store)).admitted
        (state,) = await found.inspect(store.clock(), VIEW)
        assert (state.admits, state.remaining) == (False, 0)
        assert state.retry_after > 0
        assert not (await verdict(found, store)).admitted
    assert sum(request.want for request in store.requests) <= 4


@pytest.mark.parametrize("fail_open", [True, False])
async def test_an_inspection_without_the_store_says_what_a_request_gets(
    store: LedgerStore, fail_open: bool
) -> None:
    rule = LimitRule(name="r", rate=2, per="hour")
    async with limiter(store, rule, replace(SETTINGS, fail_open=fail_open)) as found:
        store.away = True
        for _ in range(4):
            (state,) = await found.inspect(store.clock(), VIEW)
            expected = await verdict(found, store)
            assert (state.admits, state.unavailable) == (expected.admitted, expected.unavailable)
