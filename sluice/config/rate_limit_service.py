"""Domains and descriptors of the rate limit service (envoy.service.ratelimit.v3)."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from sluice.config.values import Strict

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
