"""Budgets of tokens and the leases cut from them: integers in, integers out, no clock, no storage.

A budget belongs to one key of one limit. Callout workers do not ask it for every request; each
holds a *lease*, some tokens fetched ahead of need, which it may spend until the lease expires.
What a budget promises holds for tokens spent, not merely for tokens handed out: with any number of
holders, in every span of length T no more is spent than

- token bucket:   burst + rate x T (free and leased tokens together never exceed the burst),
- fixed window:   rate in each window aligned to the clock,
- sliding window: rate in any span of one unit (kept in SLOTS slots, the oldest counted whole).

Whatever is unknown counts as spent: a lease not heard of again, tokens of an answer that got lost.
Times are microseconds, on any one clock that all callers share; `exchange.lua` is the same
arithmetic for Redis, and the tests hold the two to the same answers.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

SLOTS = 50
"""Of a sliding window: it may admit up to a 50th less than its limit, and never more."""


class Algorithm(StrEnum):
    """Values are those of the config."""

    TOKEN_BUCKET = "token_bucket"  # noqa: S105  (not a secret)
    FIXED_WINDOW = "fixed_window"
    SLIDING_WINDOW = "sliding_window"


@dataclass(frozen=True, slots=True)
class Limit:
    """`rate` tokens per `unit` microseconds; at most `capacity` at once (windows: their rate)."""

    algorithm: Algorithm
    rate: int
    unit: int
    capacity: int


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """A holder settles what it had and asks for more.

    Of the tokens it was granted before, `held` are still in its hands and `returned` come back;
    the rest is spent. `sequence` grows with every ask of the holder for the key, so that one that
    was delayed on the way cannot undo a later one. `lifetime` is for how long it wants the lease.
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
    """`tokens` more are the holder's, on top of what it held, for `lifetime` from its asking.

    `free` are left for others; `wait` is how long until one more is free, `reset` until the budget
    is whole again if nobody spends.
    """

    tokens: int
    free: int
    wait: int
    reset: int
    lifetime: int


@dataclass(slots=True)
class _Lease:
    tokens: int
    expires: int
    sequence: int


class Budget(Protocol):
    """One key's tokens. Time never runs backwards: an earlier `now` counts as the latest seen."""

    limit: Limit

    def free(self, now: int) -> int:
        """Tokens that can be taken now."""

    def take(self, now: int, tokens: int) -> None:
        """Spend tokens that are free."""

    def exchange(self, now: int, ask: LeaseRequest) -> LeaseGrant:
        """Settle a holder's lease and renew it with up to `ask.want` more tokens."""

    def wait(self, now: int, tokens: int) -> int:
        """How long until so many are free, if nobody takes any."""

    def reset(self, now: int) -> int:
        """How long until the budget is whole, if nobody takes any and leases are not spent."""

    def last_use(self) -> int:
        """The latest time at which a token may have been spent, as far as is known now."""


class _Leased:
    """What the three algorithms share: the leases, their order and their end."""

    def __init__(self, limit: Limit, now: int) -> None:
        self.limit = limit
        self._now = now
        self._leases: dict[str, _Lease] = {}
        self._out = 0

    def exchange(self, now: int, ask: LeaseRequest) -> LeaseGrant:
        now = self._advance(now)
        lease = self._leases.get(ask.holder)
        if lease is not None and ask.sequence <= lease.sequence:
            return LeaseGrant(0, self._free(), self._wait(1), self._reset(), 0)
        had = 0 if lease is None else lease.tokens
        # A store that lost its memory learns of tokens in a holder's hands here.
        held = ask.held
        returned = min(ask.returned, max(0, had - held))
        self._settle(held - had, returned)
        tokens = min(ask.want, self._free())
        expires = self._expiry(now + ask.lifetime)
        self._grant(tokens)
        if held + tokens:
            self._leases[ask.holder] = _Lease(held + tokens, expires, ask.sequence)
        else:
            self._leases.pop(ask.holder, None)
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
        """Move to `now`, ending on the way, in order, the leases that expired."""
        if now <= self._now:
            return self._now
        if self._leases:
            ended = [(le.expires, who) for who, le in self._leases.items() if le.expires <= now]
            for expires, holder in sorted(ended):
                self._move(expires)
                lease = self._leases.pop(holder)
                self._settle(-lease.tokens, 0)
        self._move(now)
        return now

    def _expiry(self, wanted: int) -> int:
        return wanted

    def _free(self) -> int:
        raise NotImplementedError

    def _wait(self, tokens: int) -> int:
        raise NotImplementedError

    def _reset(self) -> int:
        raise NotImplementedError

    def _move(self, now: int) -> None:
        """Let time pass, with the leases as they are."""
        raise NotImplementedError

    def _settle(self, change: int, returned: int) -> None:
        """Leased tokens change by `change`; `returned` of them are free again, the rest spent."""
        raise NotImplementedError

    def _grant(self, tokens: int) -> None:
        raise NotImplementedError


class TokenBucket(_Leased):
    """Counts in rate-microseconds (a token is `unit` of them), so that no fraction is lost."""

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
        most = (self.limit.capacity - self._out) * self.limit.unit
        self._level = min(most, self._level + self.limit.rate * (now - self._now))
        self._now = now

    def _settle(self, change: int, returned: int) -> None:
        self._out += change
        self._level += returned * self.limit.unit
        if change > 0:
            self._level -= change * self.limit.unit

    def _grant(self, tokens: int) -> None:
        self._out += tokens
        self._level -= tokens * self.limit.unit


class FixedWindow(_Leased):
    """Leased tokens count as used, and no lease outlives its window."""

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
        return (
            0 if tokens <= self._free() else self._expiry(self._now + self.limit.unit) - self._now
        )

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
        self._out += change
        self._used -= returned
        if change > 0:
            self._used += change

    def _grant(self, tokens: int) -> None:
        self._out += tokens
        self._used += tokens


class SlidingWindow(_Leased):
    """Spent tokens stay in the slot in which they were heard of until it has left the window."""

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
        return max(0, self.limit.rate - self._total - self._out)

    def _wait(self, tokens: int) -> int:
        missing = tokens - self._free()
        if missing <= 0:
            return 0
        for slot in sorted(self._spent):
            missing -= self._spent[slot]
            if missing <= 0:
                return self._leaves(slot) - self._now
        return self.limit.unit

    def _reset(self) -> int:
        return self._leaves(max(self._spent)) - self._now if self._spent else 0

    def _leaves(self, slot: int) -> int:
        return (slot + 1) * self._slot + self.limit.unit

    def _move(self, now: int) -> None:
        self._now = now
        for slot in [slot for slot in self._spent if self._leaves(slot) <= now]:
            self._total -= self._spent.pop(slot)

    def _settle(self, change: int, returned: int) -> None:
        self._out += change
        if change + returned < 0:
            self._spend(-change - returned)

    def _grant(self, tokens: int) -> None:
        self._out += tokens

    def _spend(self, tokens: int) -> None:
        if tokens:
            slot = self._now // self._slot
            self._spent[slot] = self._spent.get(slot, 0) + tokens
            self._total += tokens


_KINDS: dict[Algorithm, type[TokenBucket | FixedWindow | SlidingWindow]] = {
    Algorithm.TOKEN_BUCKET: TokenBucket,
    Algorithm.FIXED_WINDOW: FixedWindow,
    Algorithm.SLIDING_WINDOW: SlidingWindow,
}

NEVER = -(1 << 62)
"""As `used_until`: nothing was ever spent."""


def budget(limit: Limit, now: int, used_until: int = NEVER) -> Budget:
    """A new budget. Where its past is unknown, it may have been used up until `used_until`."""
    return _KINDS[limit.algorithm](limit, now, used_until)
