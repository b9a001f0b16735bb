"""A worker's leases of budgets that a store keeps: tokens fetched ahead of need.

Nearly every request spends a token that the worker holds, or is refused because the store has just
reported that none is left. A request waits for the store only if it is the first for its key, the
first after a pause, or if few tokens are left. Each exchange ends after the timeout. `fail_open`
applies while the store is unavailable.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from extproc.limits.arithmetic import MICROS_PER_SECOND, NEVER, LeaseGrant, LeaseRequest, Limit
from extproc.limits.budgets import BudgetState, LocalBudgets
from extproc.limits.ledger import Ledger
from extproc.limits.store import Store, StoreError

BACKOFF = 0.25
"""Seconds between attempts to reach a store that failed."""

MAX_BATCH = 128
"""Requests in one exchange, so that no worker occupies the store for long."""

AHEAD_DIVISOR = 16
"""A worker fetches ahead at most the tokens that are left, divided by this number, or what the
limit refills during `ahead` if that is more. More tokens could be unused while another worker
refuses. If this is less than the cost of a request, each request fetches its own tokens."""

DEMAND_DECAY = 0.5
"""Weight of the newest period when the estimated demand falls. A rise counts at once."""

_UNAVAILABLE = BudgetState(False, 0, MICROS_PER_SECOND, MICROS_PER_SECOND, unavailable=True)
"""The state of every budget while the store is unavailable and `fail_open` is off."""


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Settings of `limits.backend`, in seconds."""

    ahead: float = 0.1
    interval: float = 0.01
    lifetime: float = 2.0
    timeout: float = 0.05
    fail_open: bool = True
    fail_open_share: float = 0.5
    max_keys: int = 100_000


@dataclass(slots=True)
class LeaseCounts:
    """Totals for metrics. They are never reset."""

    exchanges: int = 0
    """Lease requests to which the store responded."""
    failures: int = 0
    """Batches of lease requests that failed."""
    waited: int = 0
    """Waits of requests for the store, one for each budget."""
    fallbacks: int = 0
    """Checks of a budget without the store."""


@dataclass(slots=True)
class Lease:
    """Tokens of one budget that a worker holds, and the state that the store last reported.

    Times are in microseconds.
    """

    key: str
    limit: Limit
    tokens: int = 0
    expires: int = 0
    free: int = 0
    """Tokens left in the store."""
    reported_at: int = NEVER
    wait_until: int = 0
    reset_until: int = 0
    empty_until: int = NEVER
    """Do not ask the store for tokens before this time: none was left."""
    in_use: bool = False
    """Whether a request came since the latest exchange was queued."""
    demand: float = 0.0
    """Estimated tokens per second."""
    demanded: int = 0
    """Tokens that requests needed since `demanded_since`."""
    demanded_since: int = NEVER
    fetching: asyncio.Future[None] | None = None
    """Done when the current exchange ends; None if there is none."""
    refill: asyncio.TimerHandle | None = field(default=None, repr=False)

    def drop_expired(self, now: int) -> None:
        """Drop the tokens of an expired lease: the store counts them as spent."""
        if now >= self.expires:
            self.tokens = 0

    def estimate_demand(self, now: int, period: float) -> None:
        """Update the demand: at once if it rises, by half of the fall in each period otherwise."""
        elapsed = (now - self.demanded_since) / MICROS_PER_SECOND
        latest = self.demanded / max(elapsed, period)
        self.demand = max(latest, self.demand)
        if elapsed >= period:
            self.demand = max(latest, DEMAND_DECAY * (self.demand + latest))
            self.demanded, self.demanded_since = 0, now

    def tokens_ahead(self, cost: int, period: float) -> int:
        """Tokens to hold for the requests of the next period, each of the given cost.

        AHEAD_DIVISOR bounds the number. If the bound is less than the cost of one request, the
        result is 0: another worker may need these tokens for a request.
        """
        refilled = int(self.limit.rate * period * MICROS_PER_SECOND / self.limit.unit)
        part = max((self.tokens + self.free) // AHEAD_DIVISOR, refilled)
        tokens = min(int(self.demand * period) + 1, part, self.limit.capacity)
        return tokens if tokens >= cost else 0

    def cancel_refill(self) -> None:
        """Cancel the fetch that is scheduled for when the budget has tokens again."""
        if self.refill is not None:
            self.refill.cancel()


class _Queued(NamedTuple):
    """A request for the store, made at `now`."""

    lease: Lease
    request: LeaseRequest
    now: int


class LeasedBudgets:
    """Budgets shared through a store. Use `async with`; belongs to one event loop.

    `clock` returns seconds; the `now` of all methods is read from it.
    """

    def __init__(self, store: Store, settings: LeaseSettings, clock: Callable[[], float]) -> None:
        self.counts = LeaseCounts()
        self._store = store
        self._settings = settings
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._sequence = 0
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._local = LocalBudgets(Ledger(settings.max_keys))
        self._queue: list[_Queued] = []
        self._exchanges: set[asyncio.Task[None]] = set()
        self._maintenance: asyncio.Task[None] | None = None
        self._retry_at: int | None = None
        """When to try the store again; None while it is available."""
        self._closed = False
        self._store_closed = False

    async def __aenter__(self) -> "LeasedBudgets":
        self._maintenance = asyncio.create_task(self._maintain())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        if self._maintenance is not None:
            self._maintenance.cancel()
        for lease in self._leases.values():
            lease.cancel_refill()
        # Exchanges under way may bring tokens, which are returned too.
        await self._finish_exchanges()
        if self.available:
            self._return_tokens(self._leases.values())
            await self._finish_exchanges()
        for task in self._exchanges:
            task.cancel()
        # A request that still waits must not connect again: nothing would close that connection.
        self._store_closed = True
        await self._store.close()

    @property
    def available(self) -> bool:
        """Whether the store responded to the latest exchange."""
        return self._retry_at is None

    @property
    def evictions(self) -> int:
        """Evictions of the budgets in memory. Evicted leases do not count: they are returned."""
        return self._local.evictions

    def fetch(self, now: int, limit: Limit, key: str, cost: int) -> Awaitable[None] | None:
        lease = self._lease(limit, key)
        lease.in_use = lease.in_use or cost > 0
        lease.demanded += cost
        lease.drop_expired(now)
        if self._retry_at is not None:
            if now >= self._retry_at and lease.fetching is None:
                self._retry_at = now + int(BACKOFF * MICROS_PER_SECOND)
                self._request(now, lease, cost)
            return None
        if not cost:
            return self._fetch_state(now, lease)
        if lease.tokens >= cost:
            if lease.fetching is None and self._is_low(now, lease, cost):
                self._request_ahead(now, lease, cost)
            return None
        if now < lease.empty_until and cost > lease.free:
            return None
        if lease.fetching is None:
            self._request(now, lease, cost)
        return self._wait(lease)

    def state(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        lease = self._leases[key] if key in self._leases else self._lease(limit, key)
        tokens = lease.tokens if now < lease.expires else 0
        remaining = tokens + lease.free
        reset = max(0, lease.reset_until - now)
        if tokens >= cost if cost else remaining > 0:
            return BudgetState(True, remaining, 0, reset)
        if self._retry_at is None and lease.reported_at != NEVER:
            return BudgetState(False, remaining, max(1, lease.wait_until - now), reset)
        self.counts.fallbacks += 1
        if self._settings.fail_open:
            return self._local.state(now, self._local_limit(limit), key, cost)
        return _UNAVAILABLE

    async def peek(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        """Ask the store for the state without tokens. Tokens that other workers hold do not count.

        While the store is unavailable, the state is this worker's own.
        """
        lease = self._lease(limit, key)
        lease.drop_expired(now)
        if self.available and not self._is_current(now, lease):
            if lease.fetching is None:
                self._enqueue(now, lease)
            assert lease.fetching is not None
            await asyncio.shield(lease.fetching)
            now = self._now()
        if not self.available:
            return await self._peek_without_store(now, limit, key, cost)
        remaining = (lease.tokens if now < lease.expires else 0) + lease.free
        admits = remaining >= max(1, cost)
        wait = 0 if admits else max(1, lease.wait_until - now)
        return BudgetState(admits, remaining, wait, max(0, lease.reset_until - now))

    async def _peek_without_store(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        if self._settings.fail_open:
            return await self._local.peek(now, self._local_limit(limit), key, cost)
        return _UNAVAILABLE

    def spend(self, now: int, limit: Limit, key: str, cost: int) -> None:
        lease = self._leases[key]
        if now < lease.expires and lease.tokens >= cost:
            lease.tokens -= cost
        else:
            self._local.spend(now, self._local_limit(limit), key, cost)

    def drain(self, now: int, limit: Limit, key: str) -> None:
        self._lease(limit, key).tokens = 0
        if self._retry_at is not None and self._settings.fail_open:
            self._local.drain(now, self._local_limit(limit), key)

    def _fetch_state(self, now: int, lease: Lease) -> Awaitable[None] | None:
        """Fetch the state without tokens: a request of cost 0 spends none."""
        if self._is_current(now, lease):
            return None
        if lease.fetching is None:
            self._enqueue(now, lease)
        return self._wait(lease)

    def _is_current(self, now: int, lease: Lease) -> bool:
        """Whether the store has just reported the state."""
        return now - lease.reported_at < int(self._settings.interval * MICROS_PER_SECOND)

    def _wait(self, lease: Lease) -> Awaitable[None]:
        self.counts.waited += 1
        assert lease.fetching is not None
        return asyncio.shield(lease.fetching)

    def _local_limit(self, limit: Limit) -> Limit:
        """This worker's share of a limit while the store is unavailable."""
        share = self._settings.fail_open_share
        return replace(
            limit,
            rate=max(1, int(limit.rate * share)),
            capacity=max(1, int(limit.capacity * share)),
        )

    def _lease(self, limit: Limit, key: str) -> Lease:
        lease = self._leases.get(key)
        if lease is None:
            if len(self._leases) >= self._settings.max_keys:
                self._evict()
            lease = self._leases[key] = Lease(key, limit)
        else:
            self._leases.move_to_end(key)
            lease.limit = limit
        return lease

    def _evict(self) -> None:
        _, lease = self._leases.popitem(last=False)
        lease.cancel_refill()
        self._return_tokens([lease])

    def _is_low(self, now: int, lease: Lease, cost: int) -> bool:
        """Whether to fetch ahead: half of the tokens or half of the lifetime is used."""
        if now < lease.empty_until:
            return False
        left = lease.tokens - cost
        ahead = lease.tokens_ahead(cost, self._settings.ahead)
        return 2 * left < ahead or lease.expires - now < self._half_lifetime

    @property
    def _half_lifetime(self) -> int:
        return int(self._settings.lifetime * MICROS_PER_SECOND) // 2

    def _request(self, now: int, lease: Lease, cost: int) -> None:
        """Request the tokens to hold ahead, and at least `cost` tokens."""
        lease.estimate_demand(now, self._settings.ahead)
        tokens = max(cost, lease.tokens_ahead(cost, self._settings.ahead))
        self._enqueue(now, lease, want=tokens - lease.tokens)

    def _request_ahead(self, now: int, lease: Lease, cost: int) -> None:
        """Request tokens ahead, for a request that will spend `cost` of the tokens held."""
        lease.estimate_demand(now, self._settings.ahead)
        tokens = cost + lease.tokens_ahead(cost, self._settings.ahead)
        self._enqueue(now, lease, want=tokens - lease.tokens)

    def _return_tokens(self, leases: Iterable[Lease]) -> None:
        now = self._now()
        for lease in leases:
            if lease.tokens and now < lease.expires and lease.fetching is None:
                returned, lease.tokens = lease.tokens, 0
                self._enqueue(now, lease, returned=returned)

    def _enqueue(self, now: int, lease: Lease, *, want: int = 0, returned: int = 0) -> None:
        """Queue a request. Requests of one turn of the event loop are sent together."""
        self._sequence += 1
        lease.in_use = False
        request = LeaseRequest(
            lease.key,
            lease.limit,
            self._holder,
            self._sequence,
            lease.tokens,
            returned,
            max(0, want),
            int(self._settings.lifetime * MICROS_PER_SECOND),
        )
        loop = asyncio.get_running_loop()
        lease.fetching = loop.create_future()
        if not self._queue:
            loop.call_soon(self._send_queue)
        self._queue.append(_Queued(lease, request, now))

    def _send_queue(self) -> None:
        queue, self._queue = self._queue, []
        for start in range(0, len(queue), MAX_BATCH):
            task = asyncio.create_task(self._exchange(queue[start : start + MAX_BATCH]))
            self._exchanges.add(task)
            task.add_done_callback(self._exchanges.discard)

    async def _finish_exchanges(self) -> None:
        self._send_queue()
        if self._exchanges:
            await asyncio.wait(self._exchanges, timeout=self._settings.timeout)

    async def _exchange(self, batch: list[_Queued]) -> None:
        try:
            if self._store_closed:
                raise StoreError("the budgets are closed")
            async with asyncio.timeout(self._settings.timeout):
                grants = await self._store.exchange([queued.request for queued in batch])
        except TimeoutError:
            # The store may be slow only once. No pause is needed: the attempt took the timeout.
            self._fail(retry_after=0.0)
        except StoreError:
            self._fail(retry_after=BACKOFF)
        else:
            self.counts.exchanges += len(batch)
            self._retry_at = None
            for queued, grant in zip(batch, grants, strict=True):
                self._receive(queued, grant)
        finally:
            leases = [queued.lease for queued in batch]
            for lease in leases:
                if lease.fetching is not None and not lease.fetching.done():
                    lease.fetching.set_result(None)
                lease.fetching = None
            self._return_tokens(lease for lease in leases if lease.key not in self._leases)

    def _fail(self, retry_after: float) -> None:
        """Continue without the store for this number of seconds."""
        self.counts.failures += 1
        self._retry_at = self._now() + int(retry_after * MICROS_PER_SECOND)

    def _receive(self, queued: _Queued, grant: LeaseGrant) -> None:
        now, lease = self._now(), queued.lease
        lease.tokens += grant.tokens
        # `queued.now` is before the store read its clock. So the lease does not end later here.
        lease.expires = queued.now + grant.lifetime
        lease.reported_at = now
        lease.free = grant.free
        lease.wait_until = now + grant.wait
        lease.reset_until = now + grant.reset
        lease.empty_until = NEVER
        if grant.tokens < queued.request.want and not self._closed:
            pause = self._refill_pause(lease.limit, grant.wait)
            lease.empty_until = now + pause
            lease.cancel_refill()
            loop = asyncio.get_running_loop()
            lease.refill = loop.call_later(pause / MICROS_PER_SECOND, self._refill, lease)

    def _refill_pause(self, limit: Limit, wait: int) -> int:
        """Return the time until tokens of an empty budget are requested again.

        This is when a token is free or half of the lifetime is over, but not before `interval` (or
        before half of the capacity is refilled, if that is sooner), so the requests are rare.
        """
        interval = int(self._settings.interval * MICROS_PER_SECOND)
        half_full = limit.capacity * limit.unit // (2 * limit.rate)
        return max(min(interval, half_full), min(wait, self._half_lifetime), 1)

    def _refill(self, lease: Lease) -> None:
        """Fetch tokens of a budget that was empty, if requests have needed some."""
        lease.refill = None
        if lease.in_use and lease.fetching is None and self.available:
            self._request(self._now(), lease, 1)

    async def _maintain(self) -> None:
        """Renew leases; while the store is unavailable, try it again."""
        while True:
            await asyncio.sleep(self._settings.lifetime / 4)
            now = self._now()
            if self._retry_at is None:
                self._renew(now)
            elif now >= self._retry_at:
                self._probe(now)

    def _renew(self, now: int) -> None:
        """Renew the leases in use before they expire, and return the others."""
        ending = [
            lease
            for lease in self._leases.values()
            if lease.tokens and now < lease.expires < now + self._half_lifetime
        ]
        self._return_tokens(lease for lease in ending if not lease.in_use)
        for lease in ending:
            if lease.in_use and lease.fetching is None:
                self._request(now, lease, 1)

    def _probe(self, now: int) -> None:
        """Make an exchange without tokens, to find out whether the store responds again."""
        lease = next(reversed(self._leases.values()), None)
        if lease is not None and lease.fetching is None:
            self._retry_at = now + int(BACKOFF * MICROS_PER_SECOND)
            lease.drop_expired(now)
            self._enqueue(now, lease)

    def _now(self) -> int:
        return int(self._clock() * MICROS_PER_SECOND)
