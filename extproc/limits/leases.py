"""A worker's share of budgets that are kept elsewhere: tokens leased ahead of need.

In steady state a request spends a token that is already here, or is refused because the store said
a moment ago that there is none; only the first request for a key, or one after a long silence,
waits for the store, and never longer than the timeout. While the store is away, `fail` decides.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from extproc.limits.arithmetic import NEVER, LeaseGrant, LeaseRequest, Limit
from extproc.limits.ledger import Ledger
from extproc.limits.store import Store, StoreError

MICRO = 1_000_000

BACKOFF = 0.25
"""Seconds between attempts to reach a store that failed: soon enough to matter to nobody."""

MAX_BATCH = 128
"""Asks in one exchange: a script takes tens of µs, so a batch blocks Redis for a few ms at most."""

SCARCE = 16
"""One part in so many of what is left may be fetched ahead, by each worker: it may lie there unused
while another worker refuses. Below that many tokens a request waits for its own."""

SLOWEST_DECAY = 0.5
"""Weight of a quieter period in the estimate of a key's demand, which follows a rise at once."""


# Not frozen: that would triple the time to make one, and each request makes several.
@dataclass(slots=True)
class BudgetState:
    """How a key stands towards one request. Times are microseconds from now."""

    admits: bool
    remaining: int
    wait: int
    reset: int
    unavailable: bool = False


class Budgets(Protocol):
    """What the limiter needs of a backend: to be ready to judge, to judge, and to spend."""

    @property
    def available(self) -> bool | None:
        """Whether the backend answered when it was last asked; None for budgets in memory."""

    @property
    def evictions(self) -> int:
        """Budgets of this process that were forgotten to make room."""

    def ready(self, now: int, limit: Limit, key: str, cost: int) -> Awaitable[None] | None:
        """None where `standing` can be asked at once; else what to await first."""

    def standing(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        """Whether `cost` tokens are there; for no cost, whether any is left at all."""

    def spend(self, now: int, limit: Limit, key: str, cost: int) -> None:
        """Take tokens; after a `standing` that admits, without awaiting in between."""

    def drain(self, now: int, limit: Limit, key: str) -> None:
        """Take all the tokens at hand, after a `standing` that refuses."""


class LocalBudgets:
    """Budgets of this process alone: exact, and never awaited."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def available(self) -> None:
        """There is no backend to ask."""

    @property
    def evictions(self) -> int:
        return self._ledger.evictions

    def ready(self, now: int, limit: Limit, key: str, cost: int) -> None:
        """A budget in memory is always ready."""

    def standing(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        budget = self._ledger.budget(now, limit, key)
        free = budget.free(now)
        needed = max(1, cost)
        return BudgetState(free >= needed, free, budget.wait(now, needed), budget.reset(now))

    def spend(self, now: int, limit: Limit, key: str, cost: int) -> None:
        self._ledger.budget(now, limit, key).take(now, cost)

    def drain(self, now: int, limit: Limit, key: str) -> None:
        budget = self._ledger.budget(now, limit, key)
        budget.take(now, budget.free(now))


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Seconds, as `limits.backend` of the config has them."""

    ahead: float = 0.1
    interval: float = 0.01
    lifetime: float = 2.0
    timeout: float = 0.05
    fail_open: bool = True
    fail_open_share: float = 0.5
    max_keys: int = 100_000


@dataclass(slots=True)
class LeaseCounts:
    """Totals for metrics, never reset."""

    exchanges: int = 0
    failures: int = 0
    waited: int = 0
    """Requests that awaited the store."""
    fallbacks: int = 0
    """Requests judged without the store."""


@dataclass(slots=True)
class _Lease:
    key: str
    limit: Limit
    tokens: int = 0
    expires: int = 0
    sequence: int = 0
    used: bool = False
    """Whether a request came since the last ask."""
    demand: float = 0.0
    """Tokens a second, estimated."""
    asked: int = 0
    """Tokens requests wanted since `asked_since`, for the estimate."""
    asked_since: int = NEVER
    heard_at: int = NEVER
    free: int = 0
    wait_until: int = 0
    reset_until: int = 0
    dry_until: int = NEVER
    """Until then the store need not be asked: it has none."""
    fetching: asyncio.Future[None] | None = None
    refill: asyncio.TimerHandle | None = field(default=None, repr=False)


class LeasedBudgets:
    """Budgets shared through a store. Use `async with`; belongs to one event loop.

    `clock` gives seconds on the clock that the `now` of all methods is read from.
    """

    def __init__(self, store: Store, settings: LeaseSettings, clock: Callable[[], float]) -> None:
        self.counts = LeaseCounts()
        self._store = store
        self._settings = settings
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._sequence = 0
        self._leases: OrderedDict[str, _Lease] = OrderedDict()
        self._local = LocalBudgets(Ledger(settings.max_keys))
        self._pending: list[tuple[_Lease, LeaseRequest, int]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._down_until: int | None = None
        self._closed = False

    async def __aenter__(self) -> "LeasedBudgets":
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for lease in self._leases.values():
            if lease.refill is not None:
                lease.refill.cancel()
        # First what is on its way: it may bring tokens, which go back too.
        await self._finish_exchanges()
        if self._down_until is None:
            self._give_back(list(self._leases.values()))
            await self._finish_exchanges()
        for task in self._running:
            task.cancel()
        await self._store.close()

    @property
    def available(self) -> bool:
        """Whether the store answered when it was last asked."""
        return self._down_until is None

    @property
    def evictions(self) -> int:
        """Of the budgets for while the store is away: what is leased is given back, not lost."""
        return self._local.evictions

    def ready(self, now: int, limit: Limit, key: str, cost: int) -> Awaitable[None] | None:
        lease = self._lease(limit, key)
        lease.used = lease.used or cost > 0
        lease.asked += cost
        self._lapse(now, lease)
        if self._down_until is not None:
            if now >= self._down_until and lease.fetching is None:
                self._down_until = now + int(BACKOFF * MICRO)
                self._ask(now, lease, cost, lease.tokens)
            return None
        if not cost:
            return self._look(now, lease)
        if lease.tokens >= cost:
            left = lease.tokens - cost
            if lease.fetching is None and self._is_low(now, lease, cost, left):
                self._ask(now, lease, cost, left, need=0)
            return None
        if now < lease.dry_until and cost > lease.free:
            return None
        if lease.fetching is None:
            self._ask(now, lease, cost, lease.tokens)
        return self._fetched(lease)

    def _look(self, now: int, lease: _Lease) -> Awaitable[None] | None:
        """Learn what is left, and lease none of it: a request of cost 0 keeps nothing."""
        if now - lease.heard_at < int(self._settings.interval * MICRO):
            return None
        if lease.fetching is None:
            self._queue(now, lease, 0, 0)
        return self._fetched(lease)

    def _fetched(self, lease: _Lease) -> Awaitable[None]:
        self.counts.waited += 1
        assert lease.fetching is not None
        return asyncio.shield(lease.fetching)

    def standing(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        lease = self._leases[key] if key in self._leases else self._lease(limit, key)
        tokens = lease.tokens if now < lease.expires else 0
        wait = max(1, lease.wait_until - now)
        reset = max(0, lease.reset_until - now)
        if tokens >= cost if cost else tokens + lease.free > 0:
            return BudgetState(True, tokens + lease.free, 0, reset)
        if self._down_until is None and lease.heard_at != NEVER:
            return BudgetState(False, tokens + lease.free, wait, reset)
        self.counts.fallbacks += 1
        if self._settings.fail_open:
            return self._local.standing(now, self._part(limit), key, cost)
        return BudgetState(False, 0, MICRO, MICRO, unavailable=True)

    def spend(self, now: int, limit: Limit, key: str, cost: int) -> None:
        lease = self._leases[key]
        if now < lease.expires and lease.tokens >= cost:
            lease.tokens -= cost
        else:
            self._local.spend(now, self._part(limit), key, cost)

    def drain(self, now: int, limit: Limit, key: str) -> None:
        self._lease(limit, key).tokens = 0
        if self._down_until is not None and self._settings.fail_open:
            self._local.drain(now, self._part(limit), key)

    def _part(self, limit: Limit) -> Limit:
        share = self._settings.fail_open_share
        return replace(
            limit,
            rate=max(1, int(limit.rate * share)),
            capacity=max(1, int(limit.capacity * share)),
        )

    def _lease(self, limit: Limit, key: str) -> _Lease:
        lease = self._leases.get(key)
        if lease is None:
            if len(self._leases) >= self._settings.max_keys:
                self._forget()
            lease = self._leases[key] = _Lease(key, limit)
        else:
            self._leases.move_to_end(key)
            lease.limit = limit
        return lease

    def _forget(self) -> None:
        _, lease = self._leases.popitem(last=False)
        if lease.refill is not None:
            lease.refill.cancel()
        self._give_back([lease])

    def _is_low(self, now: int, lease: _Lease, cost: int, left: int) -> bool:
        """Whether to ask ahead of need: half is used, or half of the lease's life is over."""
        if now < lease.dry_until:
            return False
        return 2 * left < self._ahead(lease, cost) or lease.expires - now < self._half_life

    @property
    def _half_life(self) -> int:
        return int(self._settings.lifetime * MICRO) // 2

    def _ahead(self, lease: _Lease, cost: int) -> int:
        """Tokens to hold for requests to come, each of a cost.

        The demand ahead, but of a scarce budget no more than a fair part: none where that is not
        even one request, or this worker would keep it from the one that has the request.
        """
        limit, ahead = lease.limit, self._settings.ahead
        part = max(
            (lease.tokens + lease.free) // SCARCE, int(limit.rate * ahead * MICRO / limit.unit)
        )
        tokens = min(int(lease.demand * ahead) + 1, part, limit.capacity)
        return tokens if tokens >= cost else 0

    def _ask(self, now: int, lease: _Lease, cost: int, left: int, need: int | None = None) -> None:
        """Queue an exchange that brings what is left to what is needed now, or is ahead."""
        self._estimate(now, lease)
        target = max(cost if need is None else need, self._ahead(lease, cost))
        self._queue(now, lease, max(0, target - left), 0)

    def _estimate(self, now: int, lease: _Lease) -> None:
        """Follow a rise of demand at once, a fall by half in each period."""
        ahead = self._settings.ahead
        elapsed = (now - lease.asked_since) / MICRO
        seen = lease.asked / max(elapsed, ahead)
        lease.demand = max(seen, lease.demand)
        if elapsed >= ahead:
            lease.demand = max(seen, SLOWEST_DECAY * (lease.demand + seen))
            lease.asked, lease.asked_since = 0, now

    def _give_back(self, leases: list[_Lease]) -> None:
        now = self._now()
        for lease in leases:
            if lease.tokens and now < lease.expires and lease.fetching is None:
                returned, lease.tokens = lease.tokens, 0
                self._queue(now, lease, 0, returned)

    def _queue(self, now: int, lease: _Lease, want: int, returned: int) -> None:
        self._sequence += 1
        lease.used = False
        ask = LeaseRequest(
            lease.key,
            lease.limit,
            self._holder,
            self._sequence,
            lease.tokens,
            returned,
            want,
            int(self._settings.lifetime * MICRO),
        )
        loop = asyncio.get_running_loop()
        lease.fetching = loop.create_future()
        if not self._pending:
            loop.call_soon(self._flush)
        self._pending.append((lease, ask, now))

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for start in range(0, len(pending), MAX_BATCH):
            task = asyncio.create_task(self._exchange(pending[start : start + MAX_BATCH]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _finish_exchanges(self) -> None:
        self._flush()
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.timeout)

    async def _exchange(self, batch: list[tuple[_Lease, LeaseRequest, int]]) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                grants = await self._store.exchange([ask for _, ask, _ in batch])
        except TimeoutError:
            # It was only slow, perhaps once, and the timeout spaces attempts well enough.
            self._fail(0.0)
        except StoreError:
            self._fail(BACKOFF)
        else:
            self.counts.exchanges += len(batch)
            self._down_until = None
            for (lease, ask, sent), grant in zip(batch, grants, strict=True):
                self._receive(lease, ask, sent, grant)
        finally:
            for lease, _, _ in batch:
                if lease.fetching is not None and not lease.fetching.done():
                    lease.fetching.set_result(None)
                lease.fetching = None
            self._give_back([h for h, _, _ in batch if h.key not in self._leases])

    def _fail(self, rest: float) -> None:
        """Go on without the store, and let it rest for so many seconds."""
        self.counts.failures += 1
        self._down_until = self._now() + int(rest * MICRO)

    def _receive(self, lease: _Lease, ask: LeaseRequest, sent: int, grant: LeaseGrant) -> None:
        now = self._now()
        lease.tokens += grant.tokens
        # Counted from the sending, which was before the store's clock was read: never too long.
        lease.expires = sent + grant.lifetime
        lease.heard_at = now
        lease.free = grant.free
        lease.wait_until = now + grant.wait
        lease.reset_until = now + grant.reset
        if grant.tokens < ask.want and not self._closed:
            rest = self._rest(lease.limit, grant.wait)
            lease.dry_until = now + rest
            if lease.refill is not None:
                lease.refill.cancel()
            loop = asyncio.get_running_loop()
            lease.refill = loop.call_later(rest / MICRO, self._refill, lease)
        else:
            lease.dry_until = NEVER

    def _rest(self, limit: Limit, wait: int) -> int:
        """How long to leave a used-up budget alone: it must not fill to the brim meanwhile."""
        interval = int(self._settings.interval * MICRO)
        filling = limit.capacity * limit.unit // (2 * limit.rate)
        return max(min(interval, filling), min(wait, self._half_life), 1)

    def _refill(self, lease: _Lease) -> None:
        """A budget that was used up has tokens again: fetch some, if anybody asked for them."""
        lease.refill = None
        if lease.used and lease.fetching is None and self._down_until is None:
            self._ask(self._now(), lease, 1, lease.tokens)

    async def _sweep(self) -> None:
        """Keep up what is held; while the store is away, see whether it is back."""
        while True:
            await asyncio.sleep(self._settings.lifetime / 4)
            now = self._now()
            if self._down_until is None:
                self._renew(now)
            elif now >= self._down_until:
                self._probe(now)

    def _renew(self, now: int) -> None:
        """Renew what is in use before it expires, give back what is not."""
        ending = [
            lease
            for lease in self._leases.values()
            if lease.tokens and now < lease.expires < now + self._half_life
        ]
        self._give_back([lease for lease in ending if not lease.used])
        for lease in ending:
            if lease.used and lease.fetching is None:
                self._ask(now, lease, 1, lease.tokens)

    def _probe(self, now: int) -> None:
        """Ask the store for nothing: without traffic, nothing else would show that it is back."""
        lease = next(reversed(self._leases.values()), None)
        if lease is not None and lease.fetching is None:
            self._down_until = now + int(BACKOFF * MICRO)
            self._lapse(now, lease)
            self._queue(now, lease, 0, 0)

    def _lapse(self, now: int, lease: _Lease) -> None:
        """Drop what has expired: the store has given it to others."""
        if now >= lease.expires:
            lease.tokens = 0

    def _now(self) -> int:
        return int(self._clock() * MICRO)
