"""envoy.service.ratelimit.v3.RateLimitService, for Envoys that have only the `ratelimit` filter.

It responds as envoyproxy/ratelimit does with the same descriptors: windows are fixed and aligned to
the clock, each descriptor is counted by itself, and hits of refused requests count. The budgets are
those of `extproc.limits`, so several servers share them.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from google.protobuf.message import DecodeError

from extproc.limits.arithmetic import MICROS_PER_SECOND, Algorithm, Limit
from extproc.limits.budgets import Budgets, BudgetState
from extproc.limits.charges import Charge, fetch_missing, wait_for_tokens
from extproc.limits.descriptors import DescriptorEntry, DescriptorMatcher, Match, without_replaced
from extproc.rpc import RpcError, Services, StatusCode, unary
from protos.base_pb2 import HeaderValue
from protos.ratelimit_pb2 import RateLimitDescriptor, RateLimitRequest, RateLimitResponse
from sluice.config.limits import UNIT_SECONDS
from sluice.config.rate_limit_service import RateLimitPolicy
from sluice.contract.paths import RATE_LIMIT

OK = RateLimitResponse.OK
OVER_LIMIT = RateLimitResponse.OVER_LIMIT

UNLIMITED_REMAINING = 2**32 - 1

MAX_COUNTERS = 10_000
"""Limits that have counts of their own. With `detailed_metric`, clients choose their names. All
other limits are counted together as OTHER."""

OTHER = "other"

MAX_DESCRIPTORS = 1000
"""Descriptors of one request. Each may need a budget at the same time, and every backend keeps at
least 2,000 budgets."""

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
class _Hit:
    """A descriptor that has a limit, and its charge."""

    match: Match
    charge: Charge


class RateLimitService:
    """Serves ShouldRateLimit for the descriptors of a config.

    `clock` returns seconds since the epoch. Hits above the share `near_limit` of a limit count as
    near the limit. With `headers`, responses have RateLimit-Limit, RateLimit-Remaining and
    RateLimit-Reset of the strictest limit.
    """

    def __init__(
        self,
        matcher: DescriptorMatcher,
        budgets: Budgets,
        clock: Callable[[], float],
        *,
        near_limit: float = 0.8,
        headers: bool = True,
    ) -> None:
        self.counts: dict[str, LimitCounts] = {}
        self._clock = clock
        self.configure(matcher, budgets, near_limit=near_limit, headers=headers)

    def configure(
        self, matcher: DescriptorMatcher, budgets: Budgets, *, near_limit: float, headers: bool
    ) -> None:
        """Replace the config. The counts of hits stay."""
        self._matcher = matcher
        self.budgets = budgets
        self._near_limit = near_limit
        self._headers = headers

    def services(self) -> Services:
        """Return the service's method, for a transport."""
        return {RATE_LIMIT: unary(self._should_rate_limit)}

    def _should_rate_limit(self, message: bytes) -> bytes | Awaitable[bytes]:
        request = _parse(message)
        hits = self._hits(request)
        charges = [hit.charge for hit in hits if isinstance(hit, _Hit) and hit.charge.limit.rate]
        now = int(self._clock() * MICROS_PER_SECOND)
        pending = fetch_missing(self.budgets, now, charges)
        if pending:
            return self._respond_later(now, hits, charges, pending)
        return self._respond(now, hits)

    async def _respond_later(
        self,
        now: int,
        hits: list[_Hit | Match | None],
        charges: list[Charge],
        pending: list[Awaitable[None]],
    ) -> bytes:
        now = await wait_for_tokens(self.budgets, now, charges, pending)
        return self._respond(now, hits)

    def _hits(self, request: RateLimitRequest) -> list[_Hit | Match | None]:
        """Return for each descriptor a hit, a Match that is unlimited, or None without a limit."""
        entries = [[(e.key, e.value) for e in d.entries] for d in request.descriptors]
        matches = without_replaced(
            self._match(request.domain, descriptor, found)
            for descriptor, found in zip(request.descriptors, entries, strict=True)
        )
        default = max(1, request.hits_addend)
        hits: list[_Hit | Match | None] = []
        for descriptor, found, match in zip(request.descriptors, entries, matches, strict=True):
            if match is None or match.policy.unlimited:
                hits.append(match)
                continue
            own = descriptor.HasField("hits_addend")
            cost = descriptor.hits_addend.value if own else default
            hits.append(_Hit(match, _charge(request.domain, found, match.policy, cost)))
        return hits

    def _match(
        self, domain: str, descriptor: RateLimitDescriptor, entries: Sequence[DescriptorEntry]
    ) -> Match | None:
        if domain not in self._matcher or not descriptor.HasField("limit"):
            return self._matcher.find(domain, entries)
        unit = _unit(descriptor.limit.unit)
        policy = RateLimitPolicy.model_validate(
            {"unit": unit, "requests_per_unit": descriptor.limit.requests_per_unit}
        )
        names = [domain, *(f"{key}_{value}" if value else key for key, value in entries)]
        return Match(policy, ".".join(names))

    def _respond(self, now: int, hits: list[_Hit | Match | None]) -> bytes:
        response = RateLimitResponse(overall_code=OK)
        strictest: RateLimitResponse.DescriptorStatus | None = None
        quotas: list[bool] = []
        for hit in hits:
            status = response.statuses.add(code=OK)
            if isinstance(hit, Match):
                status.limit_remaining = UNLIMITED_REMAINING
            elif hit is not None:
                self._count(now, hit, status)
                over = status.code == OVER_LIMIT
                if hit.match.quota:
                    quotas.append(over)
                elif over:
                    response.overall_code = OVER_LIMIT
                if (
                    strictest is None
                    or status.limit_remaining < strictest.limit_remaining
                    or (over and not hit.match.quota)
                ):
                    strictest = status
        if quotas and all(quotas):
            response.overall_code = OVER_LIMIT
        if self._headers and strictest is not None:
            response.response_headers_to_add.extend(_limit_headers(strictest))
        return response.SerializeToString()

    def _count(self, now: int, hit: _Hit, status: RateLimitResponse.DescriptorStatus) -> None:
        charge, policy = hit.charge, hit.match.policy
        state = self._charge(now, charge)
        remaining = state.remaining - charge.cost if state.admits else 0
        status.limit_remaining = remaining
        limit = RateLimitResponse.RateLimit(
            requests_per_unit=policy.requests_per_unit,
            unit=policy.unit.upper(),
            name=policy.name,
        )
        status.current_limit.CopyFrom(limit)
        status.duration_until_reset.seconds = _seconds_until_reset(now, charge.limit)
        counts = self._counts_of(hit.match.counter)
        _add_hits(counts, hit, state, int(policy.requests_per_unit * self._near_limit))
        if not state.admits and not hit.match.shadow:
            status.code = OVER_LIMIT

    def _charge(self, now: int, charge: Charge) -> BudgetState:
        budgets, limit, key = self.budgets, charge.limit, charge.key
        if not limit.rate:
            return BudgetState(False, 0, 0, 0)
        state = budgets.state(now, limit, key, charge.cost)
        if state.admits:
            budgets.spend(now, limit, key, charge.cost)
        elif charge.cost:
            # Hits of a refused request count too: they use up the tokens that are left.
            budgets.drain(now, limit, key)
        return state

    def _counts_of(self, name: str) -> LimitCounts:
        counts = self.counts.get(name)
        if counts is None:
            name = name if len(self.counts) < MAX_COUNTERS else OTHER
            counts = self.counts.setdefault(name, LimitCounts())
        return counts


def _parse(message: bytes) -> RateLimitRequest:
    try:
        request = RateLimitRequest.FromString(message)
    except DecodeError:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT, "the message is not a RateLimitRequest"
        ) from None
    if not request.domain:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "the domain is empty")
    if not request.descriptors:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "there are no descriptors")
    if len(request.descriptors) > MAX_DESCRIPTORS:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"more than {MAX_DESCRIPTORS} descriptors")
    return request


def _unit(number: int) -> str:
    values = RateLimitResponse.RateLimit.Unit.items()
    names = {value: name.lower() for name, value in values if value}
    if number not in names:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "a limit override has an unknown unit")
    return names[number]


def _charge(
    domain: str, entries: Sequence[DescriptorEntry], policy: RateLimitPolicy, cost: int
) -> Charge:
    digest = blake2b(digest_size=16)
    for part in (domain, *(text for entry in entries for text in entry)):
        encoded = part.encode()
        digest.update(b"%d:%b" % (len(encoded), encoded))
    rate = policy.requests_per_unit
    limit = Limit(Algorithm.FIXED_WINDOW, rate, _SECONDS[policy.unit] * MICROS_PER_SECOND, rate)
    # Differs from the key of every rule, which has an algorithm as its second part.
    return Charge(limit, f"rls.{policy.unit}:{digest.hexdigest()}", cost)


def _seconds_until_reset(now: int, limit: Limit) -> int:
    return -(-(limit.unit - now % limit.unit) // MICROS_PER_SECOND)


def _add_hits(counts: LimitCounts, hit: _Hit, state: BudgetState, near: int) -> None:
    """Count hits below and above the limit and near it, as envoyproxy/ratelimit does."""
    limit, hits = hit.charge.limit.rate, hit.charge.cost
    before = max(0, limit - state.remaining)
    after = before + hits
    over = hits if before >= limit else max(0, after - limit)
    counts.total_hits += hits
    counts.near_limit += max(0, min(after, limit) - max(near, before))
    if state.admits:
        counts.within_limit += hits
    else:
        counts.over_limit += over
        counts.shadow_mode += over if hit.match.shadow else 0


def _limit_headers(status: RateLimitResponse.DescriptorStatus) -> list[HeaderValue]:
    values = {
        "RateLimit-Limit": status.current_limit.requests_per_unit,
        "RateLimit-Remaining": status.limit_remaining,
        "RateLimit-Reset": status.duration_until_reset.seconds,
    }
    return [HeaderValue(key=name, value=str(value)) for name, value in values.items()]
