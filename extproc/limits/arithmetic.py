"""Arithmetic of budgets and leases: integers only, without a clock and without storage.

A budget holds the tokens of one key of one limit. Workers do not take the tokens one by one. Each
worker is a *holder* with a *lease*: tokens fetched ahead of need, which it may spend until the
lease expires. The limit applies to the tokens that are spent. In any span of length T, all holders
together spend at most

- token bucket:   burst + rate x T (free and leased tokens together never exceed the burst),
- fixed window:   rate in each window aligned to the clock,
- sliding window: rate in any span of one unit (counted in SLOTS slots; the oldest counts in full).

Unknown tokens count as spent: those of a lease that expires, and those of a response that is lost.
Times are microseconds on one clock that all callers share. `exchange.lua` does the same for Redis,
and a test compares the results.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MICROS_PER_SECOND = 1_000_000

SLOTS = 50
"""Slots of a sliding window. It may admit up to 1/50 less than its limit, and never more."""


class Algorithm(StrEnum):
    """The values are those of the config."""

    TOKEN_BUCKET = "token_bucket"  # noqa: S105  (not a secret)
    FIXED_WINDOW = "fixed_window"
    SLIDING_WINDOW = "sliding_window"


@dataclass(frozen=True, slots=True)
class Limit:
    """`rate` tokens per `unit` microseconds; at most `capacity` at once (for windows, the rate)."""

    algorithm: Algorithm
    rate: int
    unit: int
    capacity: int


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """A holder settles its lease of one budget and asks for more tokens.

    Of the tokens granted before, the holder still has `held` and returns `returned`; it has spent
    the rest. `want` is the number of tokens it asks for, `lifetime` the time it wants to keep them.
    `sequence` grows with every request of the holder, so that a delayed request cannot undo a later
    one.
    """

    key: str
    limit: Limit
    holder: str
    sequence: int
    held: int
    returned: int
    want: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """`tokens` are added to those held; the lease lasts `lifetime` from the time of the request.

    `free` tokens are left in the budget. If no token is spent, a token is free after the time
    `wait`, and all tokens are free after the time `reset`.
    """

    tokens: int
    free: int
    wait: int
    reset: int
    lifetime: int


@dataclass(slots=True)
class _HolderRecord:
    """A budget's record of one holder's lease."""

    tokens: int
    expires: int
    sequence: int


class Budget(Protocol):
    """Tokens of one key. A `now` before the latest one counts as the latest one."""

    limit: Limit

    def free(self, now: int) -> int:
        """Tokens that can be taken now."""

    def take(self, now: int, tokens: int) -> None:
        """Spend free tokens."""

    def exchange(self, now: int, request: LeaseRequest) -> LeaseGrant:
        """Settle a holder's lease and renew it with up to `request.want` more tokens."""

    def wait(self, now: int, tokens: int) -> int:
        """Time until this many tokens are free, if none is taken."""

    def reset(self, now: int) -> int:
        """Time until all tokens are free, if none is taken and no leased one is spent."""

    def last_use(self) -> int:
        """The time after which no token is spent: now, or when the last lease expires."""


class _LeasableBudget:
    """The part that all algorithms share: leases, their order and their expiry."""

    def __init__(self, limit: Limit, now: int) -> None:
        self.limit = limit
        self._now = now
        self._leases: dict[str, _HolderRecord] = {}
        self._leased = 0
        """Tokens in all leases."""

    def exchange(self, now: int, request: LeaseRequest) -> LeaseGrant:
        now = self._advance(now)
        lease = self._leases.get(request.holder)
        if lease is not None and request.sequence <= lease.sequence:
            return LeaseGrant(0, self._free(), self._wait(1), self._reset(), 0)
        recorded = 0 if lease is None else lease.tokens
        # More are held than recorded if the store has lost its data. Then they are recorded again.
        held = request.held
        returned = min(request.returned, max(0, recorded - held))
        self._settle(held - recorded, returned)
        tokens = min(request.want, self._free())
        expires = self._expiry(now + request.lifetime)
        self._grant(tokens)
        if held + tokens:
            self._leases[request.holder] = _HolderRecord(held + tokens, expires, request.sequence)
        else:
            self._leases.pop(request.holder, None)
        return LeaseGrant(tokens, self._free(), self._wait(1), self._reset(), expires - now)

    def free(self, now: int) -> int:
        self._advance(now)
        return self._free()

    def wait(self, now: int, tokens: int) -> int:
        self._advance(now)
        return self._wait(tokens)

    def reset(self, now: int) -> int:
        self._advance(now)
        return self._reset()

    def last_use(self) -> int:
        return max([self._now, *(lease.expires for lease in self._leases.values())])

    def _advance(self, now: int) -> int:
        """Advance the time to `now`, and end the leases that have expired, the oldest first."""
        if now <= self._now:
            return self._now
        if self._leases:
            expired = [
                (lease.expires, holder)
                for holder, lease in self._leases.items()
                if lease.expires <= now
            ]
            for expires, holder in sorted(expired):
                self._move(expires)
                lease = self._leases.pop(holder)
                self._settle(-lease.tokens, 0)
        self._move(now)
        return now

    def _expiry(self, wanted: int) -> int:
        """The time at which a lease expires, at most the wanted one."""
        return wanted

    def _free(self) -> int:
        raise NotImplementedError

    def _wait(self, tokens: int) -> int:
        raise NotImplementedError

    def _reset(self) -> int:
        raise NotImplementedError

    def _move(self, now: int) -> None:
        """Set the time, with all leases unchanged."""
        raise NotImplementedError

    def _settle(self, change: int, returned: int) -> None:
        """Change the number of leased tokens by `change`.

        If `change` is negative, `returned` tokens become free again and the others are spent.
        """
        raise NotImplementedError

    def _grant(self, tokens: int) -> None:
        """Lease free tokens."""
        raise NotImplementedError


class TokenBucket(_LeasableBudget):
    """A token bucket. Its level is in tokens times `unit`, so a refill loses no part of a token."""

    def __init__(self, limit: Limit, now: int, used_until: int) -> None:
        super().__init__(limit, now)
        self._level = min(limit.capacity * limit.unit, limit.rate * max(0, now - used_until))

    def take(self, now: int, tokens: int) -> None:
        self._advance(now)
        self._level -= tokens * self.limit.unit

    def _free(self) -> int:
        return max(0, self._level // self.limit.unit)

    def _wait(self, tokens: int) -> int:
        return max(0, -((self._level - tokens * self.limit.unit) // self.limit.rate))

    def _reset(self) -> int:
        return self._wait(self.limit.capacity)

    def _move(self, now: int) -> None:
        highest = (self.limit.capacity - self._leased) * self.limit.unit
        self._level = min(highest, self._level + self.limit.rate * (now - self._now))
        self._now = now

    def _settle(self, change: int, returned: int) -> None:
        self._leased += change
        self._level += returned * self.limit.unit
        if change > 0:
            self._level -= change * self.limit.unit

    def _grant(self, tokens: int) -> None:
        self._leased += tokens
        self._level -= tokens * self.limit.unit


class FixedWindow(_LeasableBudget):
    """A fixed window. Leased tokens count as used. A lease expires with its window or earlier."""

    def __init__(self, limit: Limit, now: int, used_until: int) -> None:
        super().__init__(limit, now)
        self._window = now // limit.unit
        self._used = limit.rate if used_until > self._window * limit.unit else 0

    def take(self, now: int, tokens: int) -> None:
        self._advance(now)
        self._used += tokens

    def _free(self) -> int:
        return max(0, self.limit.rate - self._used)

    def _wait(self, tokens: int) -> int:
        return 0 if tokens <= self._free() else self._reset()

    def _reset(self) -> int:
        return (self._window + 1) * self.limit.unit - self._now

    def _expiry(self, wanted: int) -> int:
        return min(wanted, (self._window + 1) * self.limit.unit)

    def _move(self, now: int) -> None:
        self._now = now
        if now // self.limit.unit != self._window:
            self._window = now // self.limit.unit
            self._used = 0

    def _settle(self, change: int, returned: int) -> None:
        self._leased += change
        self._used -= returned
        if change > 0:
            self._used += change

    def _grant(self, tokens: int) -> None:
        self._leased += tokens
        self._used += tokens


class SlidingWindow(_LeasableBudget):
    """A sliding window. A spent token counts until the slot of its report has left the window."""

    def __init__(self, limit: Limit, now: int, used_until: int) -> None:
        super().__init__(limit, now)
        self._slot = max(1, limit.unit // SLOTS)
        self._spent: dict[int, int] = {}
        if used_until > now - limit.unit:
            self._spent[min(now, used_until) // self._slot] = limit.rate
        self._total = sum(self._spent.values())

    def take(self, now: int, tokens: int) -> None:
        self._advance(now)
        self._spend(tokens)

    def _free(self) -> int:
        return max(0, self.limit.rate - self._total - self._leased)

    def _wait(self, tokens: int) -> int:
        missing = tokens - self._free()
        if missing <= 0:
            return 0
        for slot in sorted(self._spent):
            missing -= self._spent[slot]
            if missing <= 0:
                return self._slot_end(slot) - self._now
        return self.limit.unit

    def _reset(self) -> int:
        return self._slot_end(max(self._spent)) - self._now if self._spent else 0

    def _slot_end(self, slot: int) -> int:
        """The time at which the whole slot has left the window."""
        return (slot + 1) * self._slot + self.limit.unit

    def _move(self, now: int) -> None:
        self._now = now
        for slot in [slot for slot in self._spent if self._slot_end(slot) <= now]:
            self._total -= self._spent.pop(slot)

    def _settle(self, change: int, returned: int) -> None:
        self._leased += change
        if change + returned < 0:
            self._spend(-change - returned)

    def _grant(self, tokens: int) -> None:
        self._leased += tokens

    def _spend(self, tokens: int) -> None:
        if tokens:
            slot = self._now // self._slot
            self._spent[slot] = self._spent.get(slot, 0) + tokens
            self._total += tokens


_BUDGET_TYPES: dict[Algorithm, type[TokenBucket | FixedWindow | SlidingWindow]] = {
    Algorithm.TOKEN_BUCKET: TokenBucket,
    Algorithm.FIXED_WINDOW: FixedWindow,
    Algorithm.SLIDING_WINDOW: SlidingWindow,
}

NEVER = -(1 << 62)
"""A time before all others. As `used_until`, it says that no token was ever spent."""


def new_budget(limit: Limit, now: int, used_until: int = NEVER) -> Budget:
    """Return a budget without leases. All its tokens may have been spent at time `used_until`."""
    return _BUDGET_TYPES[limit.algorithm](limit, now, used_until)
