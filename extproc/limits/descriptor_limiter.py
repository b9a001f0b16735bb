"""Limits by descriptors, as envoyproxy/ratelimit enforces them.

Windows are fixed and aligned to the clock, each descriptor is counted by itself, and hits of
refused requests count.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from extproc.limits.arithmetic import MICROS_PER_SECOND, Algorithm, Limit
from extproc.limits.budgets import Budgets, BudgetState
from extproc.limits.costs import BudgetCost, fetch_missing, wait_for_tokens
from extproc.limits.descriptors import DescriptorEntry, DescriptorMatcher, Match, without_replaced
from sluice.config.limits import UNIT_SECONDS
from sluice.config.rate_limit_service import RateLimitPolicy

MAX_COUNTERS = 10_000
"""Limits that are counted separately. All other limits are counted together as OTHER. The number is
bounded because, with `detailed_metric`, names of limits contain values that clients choose."""

OTHER = "other"

_SECONDS: dict[str, int] = {
    **{str(unit): seconds for unit, seconds in UNIT_SECONDS.items()},
    "week": 604_800,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}


@dataclass(slots=True)
class LimitCounts:
    """Hits of one limit, never reset. The names are those of envoyproxy/ratelimit."""

    total_hits: int = 0
    over_limit: int = 0
    near_limit: int = 0
    within_limit: int = 0
    shadow_mode: int = 0


@dataclass(frozen=True, slots=True)
class DescriptorSettings:
    """The settings of one policy.

    Hits above the share `near_limit` of a limit count as near the limit. With `headers`, responses
    describe the strictest limit.
    """

    matcher: DescriptorMatcher
    budgets: Budgets
    near_limit: float = 0.8
    headers: bool = True


@dataclass(frozen=True, slots=True)
class DescriptorHits:
    """A descriptor and its hits. `limit`, if any, replaces the configured limit."""

    entries: Sequence[DescriptorEntry]
    hits: int
    limit: RateLimitPolicy | None = None


@dataclass(frozen=True, slots=True)
class DescriptorVerdict:
    """The verdict on one descriptor. `policy` is None if the descriptor has no limit."""

    policy: RateLimitPolicy | None
    quota: bool = False
    over_limit: bool = False
    remaining: int = 0
    reset_seconds: int = 0


class DescriptorLimiter:
    """Checks descriptors, and takes their hits from the budgets."""

    def __init__(self, settings: DescriptorSettings) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self.counts: dict[str, LimitCounts] = {}

    def check(
        self, now: float, domain: str, descriptors: Sequence[DescriptorHits]
    ) -> list[DescriptorVerdict] | Awaitable[list[DescriptorVerdict]]:
        """Check the descriptors of a request at `now` (seconds since the epoch), and take its hits.

        Returns an awaitable only if tokens must be fetched from a store.
        """
        settings = self.settings
        matches = without_replaced(_match(settings.matcher, domain, each) for each in descriptors)
        costs = [
            None if match is None or match.policy.unlimited else _cost(domain, each, match.policy)
            for match, each in zip(matches, descriptors, strict=True)
        ]
        limited = [cost for cost in costs if cost is not None and cost.limit.rate]
        micros = int(now * MICROS_PER_SECOND)
        pending = fetch_missing(settings.budgets, micros, limited)
        if pending:
            return self._decide_later(micros, settings, matches, costs, pending)
        return self._decide(micros, settings, matches, costs)

    async def _decide_later(
        self,
        now: int,
        settings: DescriptorSettings,
        matches: list[Match | None],
        costs: list[BudgetCost | None],
        pending: list[Awaitable[None]],
    ) -> list[DescriptorVerdict]:
        limited = [cost for cost in costs if cost is not None and cost.limit.rate]
        now = await wait_for_tokens(settings.budgets, now, limited, pending)
        return self._decide(now, settings, matches, costs)

    def _decide(
        self,
        now: int,
        settings: DescriptorSettings,
        matches: list[Match | None],
        costs: list[BudgetCost | None],
    ) -> list[DescriptorVerdict]:
        return [
            DescriptorVerdict(None if match is None else match.policy)
            if match is None or cost is None
            else self._verdict(now, settings, match, cost)
            for match, cost in zip(matches, costs, strict=True)
        ]

    def _verdict(
        self, now: int, settings: DescriptorSettings, match: Match, cost: BudgetCost
    ) -> DescriptorVerdict:
        state = _spend(now, settings.budgets, cost)
        near = int(match.policy.requests_per_unit * settings.near_limit)
        _add_hits(self._counts_of(match.counter), match, cost, state, near)
        return DescriptorVerdict(
            match.policy,
            quota=match.quota,
            over_limit=not state.admits and not match.shadow,
            remaining=state.remaining - cost.tokens if state.admits else 0,
            reset_seconds=_seconds_until_reset(now, cost.limit),
        )

    def _counts_of(self, name: str) -> LimitCounts:
        counts = self.counts.get(name)
        if counts is None:
            name = name if len(self.counts) < MAX_COUNTERS else OTHER
            counts = self.counts.setdefault(name, LimitCounts())
        return counts


def _match(matcher: DescriptorMatcher, domain: str, descriptor: DescriptorHits) -> Match | None:
    entries = descriptor.entries
    if descriptor.limit is None or domain not in matcher:
        return matcher.find(domain, entries)
    names = [domain, *(f"{key}_{value}" if value else key for key, value in entries)]
    return Match(descriptor.limit, ".".join(names))


def _cost(domain: str, descriptor: DescriptorHits, policy: RateLimitPolicy) -> BudgetCost:
    digest = blake2b(digest_size=16)
    for part in (domain, *(text for entry in descriptor.entries for text in entry)):
        encoded = part.encode()
        digest.update(b"%d:%b" % (len(encoded), encoded))
    rate = policy.requests_per_unit
    limit = Limit(Algorithm.FIXED_WINDOW, rate, _SECONDS[policy.unit] * MICROS_PER_SECOND, rate)
    # No rule has this key: the second part of a rule's key is an algorithm.
    return BudgetCost(limit, f"rls.{policy.unit}:{digest.hexdigest()}", descriptor.hits)


def _spend(now: int, budgets: Budgets, cost: BudgetCost) -> BudgetState:
    """Take the hits of one descriptor. Returns the state of the budget before that."""
    limit, key = cost.limit, cost.key
    if not limit.rate:
        return BudgetState(False, 0, 0, 0)
    state = budgets.state(now, limit, key, cost.tokens)
    if state.admits:
        budgets.spend(now, limit, key, cost.tokens)
    elif cost.tokens:
        # Hits of a refused request count too: they use up the tokens that are left.
        budgets.drain(now, limit, key)
    return state


def _seconds_until_reset(now: int, limit: Limit) -> int:
    return -(-(limit.unit - now % limit.unit) // MICROS_PER_SECOND)


def _add_hits(
    counts: LimitCounts, match: Match, cost: BudgetCost, state: BudgetState, near: int
) -> None:
    """Count hits below and above the limit and near it, as envoyproxy/ratelimit does."""
    limit, hits = cost.limit.rate, cost.tokens
    before = max(0, limit - state.remaining)
    after = before + hits
    over = hits if before >= limit else max(0, after - limit)
    counts.total_hits += hits
    counts.near_limit += max(0, min(after, limit) - max(near, before))
    if state.admits:
        counts.within_limit += hits
    else:
        counts.over_limit += over
        counts.shadow_mode += over if match.shadow else 0
