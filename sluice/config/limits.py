"""Request limits: local limits of each Envoy, and limit rules of the whole fleet."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sluice.config.limit_backend import LimitBackend
from sluice.config.rate_limit_service import DomainName, RateLimitDomain
from sluice.config.values import HeaderName, Name, Share, Size, Strict

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


KeyPart = Annotated[str, AfterValidator(_check_key_part), Field(examples=["subject", "model"])]
"""What a request is told apart by. A part the request lacks counts as the empty value."""


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
