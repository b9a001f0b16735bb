"""Request limits: local limits in each Envoy, and limit rules for the whole fleet."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sluice.config.invalid import check_distinct, invalid
from sluice.config.limit_backend import LimitBackend
from sluice.config.rate_limit_service import DomainName, RateLimitDomain
from sluice.config.values import HeaderName, Name, Share, Size, Strict
from sluice.contract.names import LISTENER_LIMIT, address_share, model_limit, model_type_limit

Unit = Literal["second", "minute", "hour", "day"]

UNIT_SECONDS: dict[Unit, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

_KEY_PART = re.compile(
    r"subject|group|model|version|model_type|client_address"
    r"|claim:[\x21-\x7e]{1,256}|header:[a-z0-9!#$%&'*+.^_`|~-]+"
)

MAX_EXACT = 2**53
"""Maximum of burst x unit in microseconds, which a token bucket stores.

Lua and JSON numbers are doubles, which hold no larger integers exactly."""


def _check_key_part(value: str) -> str:
    if _KEY_PART.fullmatch(value) is None:
        raise ValueError(
            "write subject, group, model, version, model_type, client_address, "
            "claim:NAME, or header:NAME (in lower case)"
        )
    return value


KeyPart = Annotated[str, AfterValidator(_check_key_part), Field(examples=["subject", "model"])]
"""A property of a request. Its value is empty if the request does not have the property."""


class LocalLimit(Strict):
    """A token bucket for requests, in each Envoy."""

    rate: int = Field(ge=1, le=10_000_000, description="Requests per second.")
    burst: int = Field(ge=1, le=10_000_000, description="Capacity of the bucket, in requests.")


class LimitMatch(Strict):
    """A condition: a property of the request matches one of `values`."""

    part: KeyPart = Field(description="Property of the request, as in `key`.")
    values: tuple[str, ...] = Field(min_length=1, max_length=1000)
    match: Literal["exact", "prefix"] = Field("exact", description="How a value is compared.")


class Cost(Strict):
    """Tokens that a request takes: the largest of `constant`, `per_body` and `header`."""

    constant: int = Field(1, ge=1, le=1_000_000, description="Tokens of every request.")
    per_body: Size | None = Field(
        None,
        ge=1,
        description="Body bytes per token, rounded up. A body of unknown size takes `maximum`.",
    )
    header: HeaderName | None = Field(
        None,
        description="Request header with the number of tokens. A value that is not a number takes "
        "`maximum`.",
    )
    maximum: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="Maximum tokens of a request. Default: the capacity of the limit.",
    )


class LimitRule(Strict):
    """A fleet-wide limit, with a separate budget for each value of `key`.

    Algorithms: `token_bucket` adds `rate` tokens per `per`, up to `burst`. `fixed_window` admits at
    most `rate` tokens in each calendar `per` (UTC). `sliding_window` admits at most `rate` tokens
    in any period of length `per`.
    """

    name: Name
    key: tuple[KeyPart, ...] = Field(
        (),
        max_length=8,
        description="Properties that select the budget: `subject`, `group`, `model`, `version`, "
        "`model_type`, `client_address`, `claim:NAME`, `header:NAME`. A claim or the groups with "
        "several values are one budget for this set of values. Empty: one budget for all "
        "requests.",
    )
    match: tuple[LimitMatch, ...] = Field(
        (),
        max_length=16,
        description="Conditions; the rule applies to requests that meet all of them.",
    )
    algorithm: Literal["token_bucket", "fixed_window", "sliding_window"] = "token_bucket"
    rate: int = Field(ge=1, le=10_000_000, description="Tokens per `per`.")
    per: Unit = Field("second", description="Unit of time of `rate`.")
    burst: int | None = Field(
        None, ge=1, le=10_000_000, description="Capacity of a token bucket. Default: `rate`."
    )
    cost: Cost = Cost()
    shadow: bool = Field(
        False, description="Count requests over the limit, and do not refuse them."
    )

    @property
    def capacity(self) -> int:
        """Maximum tokens that can be taken at the same time."""
        return self.rate if self.burst is None else self.burst

    @model_validator(mode="after")
    def _burst_fits(self) -> Self:
        if self.burst is not None and self.algorithm != "token_bucket":
            message = f"remove burst: only token_bucket has it, not {self.algorithm}"
            raise invalid(message, ("burst",))
        if self.algorithm == "token_bucket":
            maximum = MAX_EXACT // (UNIT_SECONDS[self.per] * 1_000_000)
            if self.capacity > maximum:
                message = f"write a number of at most {maximum} with per: {self.per}"
                raise invalid(message, ("rate" if self.burst is None else "burst",))
        return self

    @model_validator(mode="after")
    def _cost_fits(self) -> Self:
        for field in ("constant", "maximum"):
            value = getattr(self.cost, field)
            if value is not None and value > self.capacity:
                raise invalid(
                    f"write at most {self.capacity}, not {value}: the limit admits no more tokens "
                    "at once, so it would refuse every such request",
                    ("cost", field),
                )
        if self.cost.maximum is not None and self.cost.maximum < self.cost.constant:
            raise invalid("write a number of at least cost.constant", ("cost", "maximum"))
        return self


class Limits(Strict):
    """Limits of the rate of requests.

    Each Envoy enforces `listener`, `models` and `model_types` before the decision
    (local_ratelimit). The callout enforces `rules` for the whole fleet, after authentication.
    `domains` are for clients of the rate limit service. Rules and domains use the same backend.
    """

    listener: LocalLimit | None = Field(
        LocalLimit(rate=1000, burst=2000), description="Limit of all requests; null: none."
    )
    models: dict[Name, LocalLimit] = Field(
        default_factory=dict, description="Limits of models, by model name."
    )
    model_types: dict[str, LocalLimit] = Field(
        default_factory=dict, description="Limits of model types, by type."
    )
    address_share: float = Field(
        0.25,
        ge=0.0001,
        le=1,
        description="Share of `listener`, and of each limit in `models` and `model_types`, that "
        "one client address can use. IPv6 addresses with the same /64 prefix count as one "
        "address. 1: no limit for an address.",
    )
    rules: tuple[LimitRule, ...] = Field((), max_length=1000)
    domains: dict[DomainName, RateLimitDomain] = Field(default_factory=dict, max_length=1000)
    backend: LimitBackend = LimitBackend()
    headers: bool = Field(
        True, description="Whether responses carry `RateLimit` and `RateLimit-Policy`."
    )
    near_limit: Share = Field(
        0.8,
        description="Share of a limit above which the rate limit service counts a request as "
        "`near_limit`.",
    )

    @property
    def names(self) -> frozenset[str]:
        """The names that the log and the metrics give to the limits that can refuse a request."""
        local = [
            *((LISTENER_LIMIT,) if self.listener is not None else ()),
            *map(model_limit, self.models),
            *map(model_type_limit, self.model_types),
        ]
        rules = (rule.name for rule in self.rules)
        return frozenset((*rules, *local, *map(address_share, local)))

    @model_validator(mode="after")
    def _distinct_rules(self) -> Self:
        check_distinct(
            ((("rules", n, "name"), rule.name) for n, rule in enumerate(self.rules)),
            "two rules have the name {value}",
        )
        return self
