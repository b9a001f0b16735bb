"""envoy.service.ratelimit.v3.RateLimitService, for Envoys that have only the `ratelimit` filter."""

from collections.abc import Awaitable, Callable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from extproc.limits.descriptor_limiter import (
    DescriptorHits,
    DescriptorLimiter,
    DescriptorVerdict,
)
from extproc.rpc import RpcError, Services, StatusCode, unary
from protos.base_pb2 import HeaderValue
from protos.ratelimit_pb2 import RateLimitDescriptor, RateLimitRequest, RateLimitResponse
from sluice.config.rate_limit_service import RateLimitPolicy
from sluice.contract.paths import RATE_LIMIT

OK = RateLimitResponse.OK
OVER_LIMIT = RateLimitResponse.OVER_LIMIT

UNLIMITED_REMAINING = 2**32 - 1

MAX_DESCRIPTORS = 1000
"""Maximum descriptors of one request. All may need a budget at the same time, and `max_keys` of a
backend may be as low as 2,000."""


class RateLimitService:
    """Serves ShouldRateLimit. `clock` returns seconds since the epoch."""

    def __init__(self, limiter: DescriptorLimiter, clock: Callable[[], float]) -> None:
        self._limiter = limiter
        self._clock = clock

    def services(self) -> Services:
        """The handler factory by method path, for a transport."""
        return {RATE_LIMIT: unary(self._should_rate_limit)}

    def _should_rate_limit(self, message: bytes) -> bytes | Awaitable[bytes]:
        request = _parse(message)
        default = max(1, request.hits_addend)
        limit_allowed = request.domain in self._limiter.settings.matcher
        descriptors = [
            _descriptor(descriptor, default, limit_allowed=limit_allowed)
            for descriptor in request.descriptors
        ]
        verdicts = self._limiter.check(self._clock(), request.domain, descriptors)
        if isinstance(verdicts, list):
            return self._respond(verdicts)
        return self._respond_later(verdicts)

    async def _respond_later(self, verdicts: Awaitable[list[DescriptorVerdict]]) -> bytes:
        return self._respond(await verdicts)

    def _respond(self, verdicts: list[DescriptorVerdict]) -> bytes:
        response = RateLimitResponse(overall_code=OVER_LIMIT if _refused(verdicts) else OK)
        response.statuses.extend(_status(verdict) for verdict in verdicts)
        if self._limiter.settings.headers:
            response.response_headers_to_add.extend(_limit_headers(verdicts))
        return response.SerializeToString()


def _parse(message: bytes) -> RateLimitRequest:
    try:
        request = RateLimitRequest.FromString(message)
    except DecodeError:
        raise _invalid("the message is not a RateLimitRequest") from None
    if not request.domain:
        raise _invalid("the domain is empty")
    if not request.descriptors:
        raise _invalid("the request has no descriptors")
    if len(request.descriptors) > MAX_DESCRIPTORS:
        raise _invalid(f"the request has more than {MAX_DESCRIPTORS} descriptors")
    return request


def _descriptor(
    descriptor: RateLimitDescriptor, default_hits: int, *, limit_allowed: bool
) -> DescriptorHits:
    own_hits = descriptor.HasField("hits_addend")
    return DescriptorHits(
        entries=[(entry.key, entry.value) for entry in descriptor.entries],
        hits=descriptor.hits_addend.value if own_hits else default_hits,
        limit=_own_limit(descriptor) if limit_allowed and descriptor.HasField("limit") else None,
    )


def _own_limit(descriptor: RateLimitDescriptor) -> RateLimitPolicy:
    names = {unit: name.lower() for name, unit in RateLimitResponse.RateLimit.Unit.items() if unit}
    if descriptor.limit.unit not in names:
        raise _invalid("the limit of a descriptor has an unknown unit")
    return RateLimitPolicy.model_validate(
        {
            "unit": names[descriptor.limit.unit],
            "requests_per_unit": descriptor.limit.requests_per_unit,
        }
    )


def _refused(verdicts: list[DescriptorVerdict]) -> bool:
    """Return whether a limit is exceeded, or all quotas are exhausted."""
    quotas = [verdict.over_limit for verdict in verdicts if verdict.quota]
    return bool(quotas and all(quotas)) or any(map(_refuses, verdicts))


def _refuses(verdict: DescriptorVerdict) -> bool:
    return verdict.over_limit and not verdict.quota


def _status(verdict: DescriptorVerdict) -> RateLimitResponse.DescriptorStatus:
    policy = verdict.policy
    if policy is None:
        return RateLimitResponse.DescriptorStatus(code=OK)
    if policy.unlimited:
        return RateLimitResponse.DescriptorStatus(code=OK, limit_remaining=UNLIMITED_REMAINING)
    limit = RateLimitResponse.RateLimit(
        requests_per_unit=policy.requests_per_unit, unit=policy.unit.upper(), name=policy.name
    )
    return RateLimitResponse.DescriptorStatus(
        code=OVER_LIMIT if verdict.over_limit else OK,
        current_limit=limit,
        limit_remaining=verdict.remaining,
        duration_until_reset=Duration(seconds=verdict.reset_seconds),
    )


def _limit_headers(verdicts: list[DescriptorVerdict]) -> list[HeaderValue]:
    """Return headers for a limit that refuses, or else for the limit with the fewest hits left."""
    strictest = limit = None
    for verdict in verdicts:
        policy = verdict.policy
        if policy is None or policy.unlimited:
            continue
        if strictest is None or _refuses(verdict) or verdict.remaining < strictest.remaining:
            strictest, limit = verdict, policy.requests_per_unit
    if strictest is None:
        return []
    values = {
        "RateLimit-Limit": limit,
        "RateLimit-Remaining": strictest.remaining,
        "RateLimit-Reset": strictest.reset_seconds,
    }
    return [HeaderValue(key=name, value=str(value)) for name, value in values.items()]


def _invalid(details: str) -> RpcError:
    return RpcError(StatusCode.INVALID_ARGUMENT, details)
