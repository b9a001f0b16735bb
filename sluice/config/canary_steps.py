"""Canary analysis: the steps of a canary, and the criteria by which it is promoted or aborted."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from sluice.config.invalid import invalid
from sluice.config.values import Percent, PositiveDuration, Share, Strict

MAX_STEPS: Final = 32
"""Steps of a canary. Each is a revision of the config."""

MIN_STEP: Final = 5.0
"""Seconds of a step: workers report every two seconds."""

MAX_REQUESTS: Final = 1_000_000_000
"""Requests that a step may need."""


class CanaryStep(Strict):
    """A part of the users gets the canary for a while."""

    percent: Percent = Field(
        description="Percentage of users during the step. Each step has more than the one before. "
        "0, in the first step: the canary gets copies of requests only."
    )
    duration: PositiveDuration = Field(
        ge=MIN_STEP, description="How long the canary must meet the criteria in this step."
    )


class CanaryCriteria(Strict):
    """What the canary must meet in each step. A key without a value is not checked.

    The error rates are those of the breaker: a response with a status from 500 or no response is an
    error. The latencies are those of the model servers. `min_agreement` and `max_difference` are
    about the answers to copies of requests, and need `mirror` to the version.
    """

    max_error_rate: Share | None = Field(0.05, description="Maximum error rate of the canary.")
    max_error_rate_increase: Share | None = Field(
        None,
        description="How much the error rate may exceed that of the stable version. 0.01: by one "
        "percentage point.",
    )
    max_p99: PositiveDuration | None = Field(
        None, description="Maximum latency that 99 % of the requests to the canary do not exceed."
    )
    max_p99_increase: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = Field(
        None,
        description="How much this latency may exceed that of the stable version, as a share of "
        "it. 0.2: by 20 %.",
    )
    min_agreement: Share | None = Field(
        None,
        description="Minimum share of the copies of requests whose answer agrees with that of the "
        "stable version. A copy without an answer does not agree.",
    )
    max_difference: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Maximum absolute difference of two numbers at the same place of the tensors "
        "of both answers. Needs `min_agreement`: answers with other tensors have no difference.",
    )
    min_requests: int = Field(
        100,
        ge=1,
        le=MAX_REQUESTS,
        description="Requests to the canary in a step before it is judged. So many requests to the "
        "stable version are needed for comparisons with it, and so many copies for "
        "`min_agreement` and `max_difference`.",
    )
    max_wait: PositiveDuration = Field(
        3600.0,
        description="How long a step waits for `min_requests` after its duration. Then it fails.",
    )

    @property
    def compares(self) -> bool:
        """Whether the canary is compared with the stable version."""
        return self.max_error_rate_increase is not None or self.max_p99_increase is not None

    @property
    def needs_latency(self) -> bool:
        """Whether a criterion is about latencies."""
        return self.max_p99 is not None or self.max_p99_increase is not None

    @property
    def mirrors(self) -> bool:
        """Whether a criterion is about the answers to copies of requests."""
        return self.min_agreement is not None

    @model_validator(mode="after")
    def _differences_are_of_like_answers(self) -> Self:
        if self.max_difference is not None and self.min_agreement is None:
            message = "answers with other tensors have no difference: write min_agreement too"
            raise invalid(message, ("max_difference",))
        return self

    @model_validator(mode="after")
    def _some_criterion(self) -> Self:
        about_requests = self.max_error_rate is not None or self.compares or self.needs_latency
        if not about_requests and not self.mirrors:
            raise ValueError(
                "write at least one of max_error_rate, max_error_rate_increase, max_p99, "
                "max_p99_increase and min_agreement"
            )
        return self
