"""Domains and descriptors of the rate limit service (envoy.service.ratelimit.v3)."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from sluice.config.invalid import check_distinct, invalid
from sluice.config.values import Strict

LimitName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class RateLimitPolicy(Strict):
    """A fixed window, or no limit (ratelimit.config.ratelimit.v3.RateLimitPolicy)."""

    unit: Literal["second", "minute", "hour", "day", "week", "month", "year"] = "second"
    requests_per_unit: int = Field(0, ge=0, le=2**32 - 1)
    unlimited: bool = False
    name: str = Field(
        "", max_length=256, description="Name of the limit, for `replaces` of other limits."
    )
    replaces: tuple[LimitName, ...] = Field(
        (), description="Names of limits that this limit replaces if both match a request."
    )

    @model_validator(mode="after")
    def _limit_is_unambiguous(self) -> Self:
        if self.unlimited and self.requests_per_unit:
            raise invalid(
                "remove requests_per_unit, or set unlimited: false", ("requests_per_unit",)
            )
        if self.name and self.name in self.replaces:
            raise invalid(f"the limit {self.name!r} cannot replace itself", ("replaces",))
        return self


class Descriptor(Strict):
    """Matches one entry of a descriptor (ratelimit.config.ratelimit.v3.RateLimitDescriptor).

    A descriptor without `value` matches every value that no other descriptor matches, and each
    value has a separate budget. A `*` in `value` matches any text.
    """

    key: str = Field(min_length=1, max_length=256)
    value: str = Field("", max_length=1024)
    rate_limit: RateLimitPolicy | None = None
    descriptors: tuple["Descriptor", ...] = Field(
        (), max_length=10_000, description="Descriptors for the next entry."
    )
    shadow_mode: bool = Field(
        False, description="Count requests over the limit, and do not refuse them."
    )
    quota_mode: bool = Field(
        False,
        description="Refuse a request only when all quotas that match it are exhausted.",
    )
    detailed_metric: bool = Field(
        False, description="Whether metrics show the value in the request instead of `value`."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _check_distinct(self.descriptors)
        return self


class RateLimitDomain(Strict):
    """The descriptors of a domain of the rate limit service (envoy.service.ratelimit.v3)."""

    descriptors: tuple[Descriptor, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _check_distinct(self.descriptors)
        return self


def _check_distinct(descriptors: tuple[Descriptor, ...]) -> None:
    check_distinct(
        ((("descriptors", n), (each.key, each.value)) for n, each in enumerate(descriptors)),
        "two descriptors have the key and the value {value}",
    )


DomainName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
