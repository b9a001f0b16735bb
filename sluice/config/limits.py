"""What is admitted: by each Envoy alone, by the whole fleet, and by the rate limit service."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from sluice.config.values import Duration, HeaderName, Name, PositiveDuration, Size, Strict

Unit = Literal["second", "minute", "hour", "day"]

UNIT_SECONDS: dict[Unit, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

_KEY_PART = re.compile(
    r"subject|group|model|version|model_type|client_address"
    r"|claim:[\x21-\x7e]{1,256}|header:[a-z0-9!#$%&'*+.^_`|~-]+"
)

MAX_EXACT = 2**53
"""Lua and JSON numbers are doubles, exact to here; a bucket holds burst x unit in microseconds."""


def _check_key_part(value: str) -> str:
    if _KEY_PART.fullmatch(value) is None:
        raise ValueError(
            "name one of subject, group, model, version, model_type, client_address, "
            "claim:NAME and header:NAME (in lower case)"
        )
    return value


def _check_redis_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        raise ValueError("write redis://HOST:PORT/DB, or rediss:// for TLS")
    if url.username is not None or url.password is not None:
        raise ValueError("keep credentials out of the URL: use username and password_env")
    return value


KeyPart = Annotated[str, AfterValidator(_check_key_part), Field(examples=["subject", "model"])]
"""What a request is told apart by. A part the request lacks counts as the empty value."""

RedisUrl = Annotated[
    str, AfterValidator(_check_redis_url), Field(examples=["redis://127.0.0.1:6379/0"])
]

Share = Annotated[float, Field(ge=0, le=1)]


class LocalLimit(Strict):
    """`burst` requests at once, refilled at `rate` requests per second."""

    rate: int = Field(ge=1, le=10_000_000)
    burst: int = Field(ge=1, le=10_000_000)


class LimitMatch(Strict):
    """A condition on one part of the request: any of `values` is enough."""

    part: KeyPart
    values: tuple[str, ...] = Field(min_length=1, max_length=1000)
    match: Literal["exact", "prefix"] = "exact"


class Cost(Strict):
    """How many tokens a request takes: the largest of what is named here, up to `maximum`."""

    constant: int = Field(1, ge=1, le=1_000_000)
    per_body: Size | None = Field(
        None,
        ge=1,
        description="One token for every so many body bytes begun; a body of unknown size costs "
        "the maximum.",
    )
    header: HeaderName | None = Field(
        None, description="Header whose value is the number of tokens; no number: the constant."
    )
    maximum: int | None = Field(
        None, ge=1, le=10_000_000, description="Without it, what the limit admits at once."
    )


class LimitRule(Strict):
    """One fleet-wide limit: a budget of its own for every distinct value of `key`.

    `token_bucket` refills `rate` tokens per `per`, up to `burst`; `fixed_window` admits `rate`
    in each calendar `per` (UTC); `sliding_window` admits `rate` in any span of length `per`.
    """

    name: Name
    key: tuple[KeyPart, ...] = Field(
        (), max_length=8, description="What each budget belongs to; empty: one for everyone."
    )
    match: tuple[LimitMatch, ...] = Field(
        (), max_length=16, description="The rule is for requests that meet all of these."
    )
    algorithm: Literal["token_bucket", "fixed_window", "sliding_window"] = "token_bucket"
    rate: int = Field(ge=1, le=10_000_000, description="Tokens per `per`.")
    per: Unit = "second"
    burst: int | None = Field(
        None, ge=1, le=10_000_000, description="Of a token_bucket; without it, equal to `rate`."
    )
    cost: Cost = Cost()
    shadow: bool = Field(False, description="Only count what would be refused.")

    @property
    def capacity(self) -> int:
        """The most tokens that can be taken at once."""
        return self.rate if self.burst is None else self.burst

    @model_validator(mode="after")
    def _burst_fits(self) -> Self:
        if self.burst is not None and self.algorithm != "token_bucket":
            raise ValueError(f"burst is for token_bucket; {self.algorithm} has only a rate")
        if self.algorithm == "token_bucket":
            most = MAX_EXACT // (UNIT_SECONDS[self.per] * 1_000_000)
            if self.capacity > most:
                raise ValueError(f"burst is at most {most} with a rate per {self.per}")
        return self

    @model_validator(mode="after")
    def _cost_fits(self) -> Self:
        for field in ("constant", "maximum"):
            value = getattr(self.cost, field)
            if value is not None and value > self.capacity:
                raise ValueError(
                    f"cost.{field} is {value}, but the limit admits {self.capacity} at once: "
                    "no such request would ever pass"
                )
        if self.cost.maximum is not None and self.cost.maximum < self.cost.constant:
            raise ValueError("cost.maximum is below cost.constant")
        return self


class Leases(Strict):
    """How tokens are fetched ahead of need, so that a request waits on no round trip."""

    ahead: PositiveDuration = Field(
        0.1, le=10, description="Demand for this long is held by each worker."
    )
    interval: PositiveDuration = Field(
        0.01, le=1, description="How long a worker lets a limit that is used up rest."
    )
    lifetime: PositiveDuration = Field(
        2.0, le=60, description="Tokens a worker has not used by then are lost with it."
    )


class LimitBackend(Strict):
    """Where budgets are kept. `memory` is exact for one callout service, Redis for many."""

    kind: Literal["memory", "redis"] = "memory"
    mode: Literal["single", "sentinel", "cluster"] = "single"
    urls: tuple[RedisUrl, ...] = Field(
        (), max_length=32, description="One server, or the sentinels, or some of the cluster."
    )
    sentinel_service: str | None = Field(None, min_length=1, description="The master's name.")
    username: str | None = None
    password_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable of the workers that holds the password.",
    )
    prefix: str = Field("sluice", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Of Redis keys.")
    timeout: PositiveDuration = Field(
        0.05, le=5, description="The longest a request waits for the backend."
    )
    fail: Literal["open", "closed"] = Field(
        "open",
        description="Without the backend: enforce `fail_open_share` locally, or refuse.",
    )
    fail_open_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Part of each limit that one worker admits by itself while the backend is "
        "away; 1 / workers keeps the total.",
    )
    max_keys: int = Field(
        100_000, ge=2000, le=10_000_000, description="Budgets kept in one process's memory."
    )
    leases: Leases = Leases()

    @model_validator(mode="after")
    def _redis_is_whole(self) -> Self:
        if self.kind == "redis" and not self.urls:
            raise ValueError("name the Redis servers in urls")
        if self.kind == "memory" and self.urls:
            raise ValueError("urls are for kind: redis")
        if self.mode == "single" and len(self.urls) > 1:
            raise ValueError("mode: single has one url")
        if (self.mode == "sentinel") != (self.sentinel_service is not None):
            raise ValueError("sentinel_service goes with mode: sentinel")
        if self.mode == "cluster" and any(urlsplit(u).path.strip("/0") for u in self.urls):
            raise ValueError("a Redis cluster has only database 0")
        if self.leases.interval >= self.leases.lifetime:
            raise ValueError("leases.interval must be below leases.lifetime")
        return self


LimitName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class RateLimitPolicy(Strict):
    """ratelimit.config.ratelimit.v3.RateLimitPolicy: a fixed window, or no limit."""

    unit: Literal["second", "minute", "hour", "day", "week", "month", "year"] = "second"
    requests_per_unit: int = Field(0, ge=0, le=2**32 - 1)
    unlimited: bool = False
    name: str = Field("", max_length=256)
    replaces: tuple[LimitName, ...] = Field(
        (), description="Names of limits that do not count where this one applies."
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.unlimited and self.requests_per_unit:
            raise ValueError("requests_per_unit has no meaning with unlimited: true")
        if self.name and self.name in self.replaces:
            raise ValueError(f"the limit {self.name!r} cannot replace itself")
        return self


class Descriptor(Strict):
    """ratelimit.config.ratelimit.v3.RateLimitDescriptor: matches one entry of a descriptor.

    Without a value it is the default for its key, and every value has a budget of its own. A `*`
    in a value stands for any text.
    """

    key: str = Field(min_length=1, max_length=256)
    value: str = Field("", max_length=1024)
    rate_limit: RateLimitPolicy | None = None
    descriptors: tuple["Descriptor", ...] = Field((), max_length=10_000)
    shadow_mode: bool = False
    quota_mode: bool = Field(
        False,
        description="A request is refused only where all the quotas that it falls under are used "
        "up.",
    )
    detailed_metric: bool = Field(
        False, description="Count by the value a request brought, not by the configured one."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _check_distinct(self.descriptors)
        return self


class RateLimitDomain(Strict):
    """The descriptors of one domain, for clients of envoy.service.ratelimit.v3."""

    descriptors: tuple[Descriptor, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _check_distinct(self.descriptors)
        return self


def _check_distinct(descriptors: tuple[Descriptor, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for descriptor in descriptors:
        pair = (descriptor.key, descriptor.value)
        if pair in seen:
            raise ValueError(f"two descriptors have the key {pair[0]!r} and the value {pair[1]!r}")
        seen.add(pair)


DomainName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Limits(Strict):
    """What is admitted, each where it is cheapest to refuse.

    `listener`, `models` and `model_types`: by each Envoy, before any decision is made
    (local_ratelimit). `rules`: by the whole fleet, decided after authentication. `domains`:
    descriptors of the rate limit service. Rules and domains share the backend.
    """

    listener: LocalLimit | None = LocalLimit(rate=1000, burst=2000)
    models: dict[Name, LocalLimit] = Field(default_factory=dict)
    model_types: dict[str, LocalLimit] = Field(default_factory=dict)
    rules: tuple[LimitRule, ...] = Field((), max_length=1000)
    domains: dict[DomainName, RateLimitDomain] = Field(default_factory=dict, max_length=1000)
    backend: LimitBackend = LimitBackend()
    headers: bool = Field(
        True, description="Whether responses carry RateLimit and RateLimit-Policy."
    )
    near_limit: Share = Field(
        0.8, description="Share of a limit from which the rate limit service counts near_limit."
    )

    @model_validator(mode="after")
    def _distinct_rules(self) -> Self:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two limits.rules have the name {name!r}")
        return self


class BreakerConfig(Strict):
    """When a version that fails is spared: judged over a window that slides in `buckets` steps.

    Under load the window shrinks to the newest `sample` requests, so that a version that starts to
    fail is not defended by what it did before. How requests end it knows from `telemetry.reports`.
    """

    enabled: bool = True
    window: PositiveDuration = Field(10.0, le=600)
    buckets: int = Field(40, ge=2, le=120)
    min_volume: int = Field(20, ge=1, description="Fewer requests in the window prove nothing.")
    sample: int = Field(200, ge=1)
    refuse_above: Share = Field(0.30, description="Error rate above which requests are refused.")
    reduce_above: Share = Field(0.10, description="Error rate above which `admit` get through.")
    admit: Share = Field(0.5, description="Share admitted between the two thresholds.")
    probe_interval: PositiveDuration = Field(
        0.2, le=60, description="One request in this long still gets through while refusing."
    )
    probe_successes: int = Field(
        10, ge=1, le=1000, description="Successes in a row that end the refusal."
    )
    retry_after: Duration = Field(1.0, le=3600, description="What refused clients are told.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.reduce_above > self.refuse_above:
            raise ValueError("reduce_above is at most refuse_above")
        if self.sample < self.min_volume:
            raise ValueError("sample is at least min_volume")
        return self
