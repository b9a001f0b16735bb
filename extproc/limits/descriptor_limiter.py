"""Limits by descriptors, as envoyproxy/ratelimit enforces them.

Windows are fixed and aligned to the clock, each descriptor is counted by itself, and hits of
refused requests count.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from extproc.limits.arithmetic import MICROS_PER_SECOND, Algorithm, Limit
from extproc.limits.budgets import Budgets, BudgetState
from extproc.limits.charges import Charge, fetch_missing, wait_for_tokens
from extproc.limits.descriptors import DescriptorEntry, DescriptorMatcher, Match, without_replaced
from sluice.config.limits import UNIT_SECONDS
from sluice.config.rate_limit_service import RateLimitPolicy

MAX_COUNTERS = 10_000
"""Limits that have counts of their own. With `detailed_metric`, clients choose their names. All
other limits are counted together as OTHER."""

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
    """A descriptor and its hits. `limit` is the request's own limit, instead of the configured."""

    entries: Sequence[DescriptorEntry]
    hits: int
    limit: RateLimitPolicy | None = None


@dataclass(frozen=True, slots=True)
class DescriptorVerdict:
    """The verdict on one descriptor. `policy` is None where the descriptor has no limit."""

    policy: RateLimitPolicy | None
    quota: bool = False
    over_limit: bool = False
    remaining: int = 0
    reset_seconds: int = 0


class DescriptorLimiter:
    """Judges and charges descriptors."""

    def __init__(self, settings: DescriptorSettings) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self.counts: dict[str, LimitCounts] = {}

    def check(
        self, now: float, domain: str, descriptors: Sequence[DescriptorHits]
    ) -> list[DescriptorVerdict] | Awaitable[list[DescriptorVerdict]]:
        """Judge and charge the descriptors of one request at `now` (seconds since the epoch).

        The verdicts must be awaited only where tokens must be fetched from a store.
        """
        settings = self.settings
        matches = without_replaced(_match(settings.matcher, domain, each) for each in descriptors)
        charges = [
            None if match is None or match.policy.unlimited else _charge(domain, each, match.policy)
            for match, each in zip(matches, descriptors, strict=True)
        ]
        limited = [charge for charge in charges if charge is not None and charge.limit.rate]
        micros = int(now * MICROS_PER_SECOND)
        pending = fetch_missing(settings.budgets, micros, limited)
        if pending:
            return self._judge_later(micros, settings, matches, charges, pending)
        return self._judge(micros, settings, matches, charges)

    async def _judge_later(
        self,
        now: int,
        settings: DescriptorSettings,
        matches: list[Match | None],
        charges: list[Charge | None],
        pending: list[Awaitable[None]],
    ) -> list[DescriptorVerdict]:
        limited = [charge for charge in charges if charge is not None and charge.limit.rate]
        now = await wait_for_tokens(settings.budgets, now, limited, pending)
        return self._judge(now, settings, matches, charges)

    def _judge(
        self,
        now: int,
        settings: DescriptorSettings,
        matches: list[Match | None],
        charges: list[Charge | None],
    ) -> list[DescriptorVerdict]:
        return [
            DescriptorVerdict(None if match is None else match.policy)
            if match is None or charge is None
            else self._verdict(now, settings, match, charge)
            for match, charge in zip(matches, charges, strict=True)
        ]

    def _verdict(
        self, now: int, settings: DescriptorSettings, match: Match, charge: Charge
    ) -> DescriptorVerdict:
        state = _pay(now, settings.budgets, charge)
        near = int(match.policy.requests_per_unit * settings.near_limit)
        _add_hits(self._counts_of(match.counter), match, charge, state, near)
        return DescriptorVerdict(
            match.policy,
            quota=match.quota,
            over_limit=not state.admits and not match.shadow,
            remaining=state.remaining - charge.cost if state.admits else 0,
            reset_seconds=_seconds_until_reset(now, charge.limit),
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


def _charge(domain: str, descriptor: DescriptorHits, policy: RateLimitPolicy) -> Charge:
    digest = blake2b(digest_size=16)
    for part in (domain, *(text for entry in descriptor.entries for text in entry)):
        encoded = part.encode()
        digest.update(b"%d:%b" % (len(encoded), encoded))
    rate = policy.requests_per_unit
    limit = Limit(Algorithm.FIXED_WINDOW, rate, _SECONDS[policy.unit] * MICROS_PER_SECOND, rate)
    # Differs from the key of every rule, which has an algorithm as its second part.
    return Charge(limit, f"rls.{policy.unit}:{digest.hexdigest()}", descriptor.hits)


def _pay(now: int, budgets: Budgets, charge: Charge) -> BudgetState:
    """Return the state of the budget before it is charged."""
    limit, key = charge.limit, charge.key
    if not limit.rate:
        return BudgetState(False, 0, 0, 0)
    state = budgets.state(now, limit, key, charge.cost)
    if state.admits:
        budgets.spend(now, limit, key, charge.cost)
    elif charge.cost:
        # Hits of a refused request count too: they use up the tokens that are left.
        budgets.drain(now, limit, key)
    return state


def _seconds_until_reset(now: int, limit: Limit) -> int:
    return -(-(limit.unit - now % limit.unit) // MICROS_PER_SECOND)


def _add_hits(
    counts: LimitCounts, match: Match, charge: Charge, state: BudgetState, near: int
) -> None:
    """Count hits below and above the limit and near it, as envoyproxy/ratelimit does."""
    limit, hits = charge.limit.rate, charge.cost
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
