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

from extproc.limits.arithmetic import NEVER, Ask, Grant, Limit
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
class Standing:
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

    def standing(self, now: int, limit: Limit, key: str, cost: int) -> Standing:
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

    def standing(self, now: int, limit: Limit, key: str, cost: int) -> Standing:
        budget = self._ledger.budget(now, limit, key)
        free = budget.free(now)
        needed = max(1, cost)
        return Standing(free >= needed, free, budget.wait(now, needed), budget.reset(now))

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
    share: float = 0.5
    max_keys: int = 100_000


@dataclass(slots=True)
class Counts:
    """Totals for metrics, never reset."""

    exchanges: int = 0
    failures: int = 0
    waited: int = 0
    """Requests that awaited the store."""
    fallbacks: int = 0
    """Requests judged without the store."""


@dataclass(slots=True)
class _Holding:
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
        self.counts = Counts()
        self._store = store
        self._settings = settings
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._sequence = 0
        self._holdings: OrderedDict[str, _Holding] = OrderedDict()
        self._local = LocalBudgets(Ledger(settings.max_keys))
        self._pending: list[tuple[_Holding, Ask, int]] = []
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
        for holding in self._holdings.values():
            if holding.refill is not None:
                holding.refill.cancel()
        if self._down_until is None:
            self._give_back(list(self._holdings.values()))
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.timeout)
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
        holding = self._holding(limit, key)
        holding.used = holding.used or cost > 0
        holding.asked += cost
        self._lapse(now, holding)
        if self._down_until is not None:
            if now >= self._down_until and holding.fetching is None:
                self._down_until = now + int(BACKOFF * MICRO)
                self._ask(now, holding, cost, holding.tokens)
            return None
        if not cost:
            return self._look(now, holding)
        if holding.tokens >= cost:
            left = holding.tokens - cost
            if holding.fetching is None and self._is_low(now, holding, cost, left):
                self._ask(now, holding, cost, left, need=0)
            return None
        if now < holding.dry_until and cost > holding.free:
            return None
        if holding.fetching is None:
            self._ask(now, holding, cost, holding.tokens)
        return self._fetched(holding)

    def _look(self, now: int, holding: _Holding) -> Awaitable[None] | None:
        """Learn what is left, and lease none of it: whoever asks for nothing keeps nothing."""
        if now - holding.heard_at < int(self._settings.interval * MICRO):
            return None
        if holding.fetching is None:
            self._queue(now, holding, 0, 0)
        return self._fetched(holding)

    def _fetched(self, holding: _Holding) -> Awaitable[None]:
        self.counts.waited += 1
        assert holding.fetching is not None
        return asyncio.shield(holding.fetching)

    def standing(self, now: int, limit: Limit, key: str, cost: int) -> Standing:
        holding = self._holdings[key] if key in self._holdings else self._holding(limit, key)
        tokens = holding.tokens if now < holding.expires else 0
        wait = max(1, holding.wait_until - now)
        reset = max(0, holding.reset_until - now)
        if tokens >= cost if cost else tokens + holding.free > 0:
            return Standing(True, tokens + holding.free, 0, reset)
        if self._down_until is None and holding.heard_at != NEVER:
            return Standing(False, tokens + holding.free, wait, reset)
        self.counts.fallbacks += 1
        if self._settings.fail_open:
            return self._local.standing(now, self._part(limit), key, cost)
        return Standing(False, 0, MICRO, MICRO, unavailable=True)

    def spend(self, now: int, limit: Limit, key: str, cost: int) -> None:
        holding = self._holdings[key]
        if now < holding.expires and holding.tokens >= cost:
            holding.tokens -= cost
        else:
            self._local.spend(now, self._part(limit), key, cost)

    def drain(self, now: int, limit: Limit, key: str) -> None:
        self._holding(limit, key).tokens = 0
        if self._down_until is not None and self._settings.fail_open:
            self._local.drain(now, self._part(limit), key)

    def _part(self, limit: Limit) -> Limit:
        share = self._settings.share
        return replace(
            limit,
            rate=max(1, int(limit.rate * share)),
            capacity=max(1, int(limit.capacity * share)),
        )

    def _holding(self, limit: Limit, key: str) -> _Holding:
        holding = self._holdings.get(key)
        if holding is None:
            if len(self._holdings) >= self._settings.max_keys:
                self._forget()
            holding = self._holdings[key] = _Holding(key, limit)
        else:
            self._holdings.move_to_end(key)
            holding.limit = limit
        return holding

    def _forget(self) -> None:
        _, holding = self._holdings.popitem(last=False)
        if holding.refill is not None:
            holding.refill.cancel()
        self._give_back([holding])

    def _is_low(self, now: int, holding: _Holding, cost: int, left: int) -> bool:
        """Whether to ask ahead of need: half is used, or half of the lease's life is over."""
        if now < holding.dry_until:
            return False
        return 2 * left < self._ahead(holding, cost) or holding.expires - now < self._half_life

    @property
    def _half_life(self) -> int:
        return int(self._settings.lifetime * MICRO) // 2

    def _ahead(self, holding: _Holding, cost: int) -> int:
        """Tokens to hold for requests to come, each of a cost.

        The demand ahead, but of a scarce budget no more than a fair part: none where that is not
        even one request, or this worker would keep it from the one that has the request.
        """
        limit, ahead = holding.limit, self._settings.ahead
        part = max(
            (holding.tokens + holding.free) // SCARCE, int(limit.rate * ahead * MICRO / limit.unit)
        )
        tokens = min(int(holding.demand * ahead) + 1, part, limit.capacity)
        return tokens if tokens >= cost else 0

    def _ask(
        self, now: int, holding: _Holding, cost: int, left: int, need: int | None = None
    ) -> None:
        """Queue an exchange that brings what is left to what is needed now, or is ahead."""
        self._estimate(now, holding)
        target = max(cost if need is None else need, self._ahead(holding, cost))
        self._queue(now, holding, max(0, target - left), 0)

    def _estimate(self, now: int, holding: _Holding) -> None:
        """Follow a rise of demand at once, a fall by half in each period."""
        ahead = self._settings.ahead
        elapsed = (now - holding.asked_since) / MICRO
        seen = holding.asked / max(elapsed, ahead)
        holding.demand = max(seen, holding.demand)
        if elapsed >= ahead:
            holding.demand = max(seen, SLOWEST_DECAY * (holding.demand + seen))
            holding.asked, holding.asked_since = 0, now

    def _give_back(self, holdings: list[_Holding]) -> None:
        now = self._now()
        for holding in holdings:
            if holding.tokens and now < holding.expires and holding.fetching is None:
                returned, holding.tokens = holding.tokens, 0
                self._queue(now, holding, 0, returned)

    def _queue(self, now: int, holding: _Holding, want: int, returned: int) -> None:
        self._sequence += 1
        holding.used = False
        ask = Ask(
            holding.key,
            holding.limit,
            self._holder,
            self._sequence,
            holding.tokens,
            returned,
            want,
            int(self._settings.lifetime * MICRO),
        )
        loop = asyncio.get_running_loop()
        holding.fetching = loop.create_future()
        if not self._pending:
            loop.call_soon(self._flush)
        self._pending.append((holding, ask, now))

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for start in range(0, len(pending), MAX_BATCH):
            task = asyncio.create_task(self._exchange(pending[start : start + MAX_BATCH]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _exchange(self, batch: list[tuple[_Holding, Ask, int]]) -> None:
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
            for (holding, ask, sent), grant in zip(batch, grants, strict=True):
                self._receive(holding, ask, sent, grant)
        finally:
            for holding, _, _ in batch:
                if holding.fetching is not None and not holding.fetching.done():
                    holding.fetching.set_result(None)
                holding.fetching = None
            self._give_back([h for h, _, _ in batch if h.key not in self._holdings])

    def _fail(self, rest: float) -> None:
        """Go on without the store, and let it rest for so many seconds."""
        self.counts.failures += 1
        self._down_until = self._now() + int(rest * MICRO)

    def _receive(self, holding: _Holding, ask: Ask, sent: int, grant: Grant) -> None:
        now = self._now()
        holding.tokens += grant.tokens
        # Counted from the sending, which was before the store's clock was read: never too long.
        holding.expires = sent + grant.lifetime
        holding.heard_at = now
        holding.free = grant.free
        holding.wait_until = now + grant.wait
        holding.reset_until = now + grant.reset
        if grant.tokens < ask.want and not self._closed:
            rest = self._rest(holding.limit, grant.wait)
            holding.dry_until = now + rest
            if holding.refill is not None:
                holding.refill.cancel()
            loop = asyncio.get_running_loop()
            holding.refill = loop.call_later(rest / MICRO, self._refill, holding)
        else:
            holding.dry_until = NEVER

    def _rest(self, limit: Limit, wait: int) -> int:
        """How long to leave a used-up budget alone: it must not fill to the brim meanwhile."""
        interval = int(self._settings.interval * MICRO)
        filling = limit.capacity * limit.unit // (2 * limit.rate)
        return max(min(interval, filling), min(wait, self._half_life), 1)

    def _refill(self, holding: _Holding) -> None:
        """A budget that was used up has tokens again: fetch some, if anybody asked for them."""
        holding.refill = None
        if holding.used and holding.fetching is None and self._down_until is None:
            self._ask(self._now(), holding, 1, holding.tokens)

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
            holding
            for holding in self._holdings.values()
            if holding.tokens and now < holding.expires < now + self._half_life
        ]
        self._give_back([holding for holding in ending if not holding.used])
        for holding in ending:
            if holding.used and holding.fetching is None:
                self._ask(now, holding, 1, holding.tokens)

    def _probe(self, now: int) -> None:
        """Ask the store for nothing: where no requests come, nothing else would tell its return."""
        holding = next(reversed(self._holdings.values()), None)
        if holding is not None and holding.fetching is None:
            self._down_until = now + int(BACKOFF * MICRO)
            self._lapse(now, holding)
            self._queue(now, holding, 0, 0)

    def _lapse(self, now: int, holding: _Holding) -> None:
        """Drop what has expired: the store has given it to others."""
        if now >= holding.expires:
            holding.tokens = 0

    def _now(self) -> int:
        return int(self._clock() * MICRO)
