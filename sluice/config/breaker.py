"""Thresholds and window of a model's circuit breaker."""

from typing import Self

from pydantic import Field, model_validator

from sluice.config.invalid import invalid
from sluice.config.values import Duration, PositiveDuration, Share, Strict

MAX_REQUESTS = 1_000_000_000
"""Requests in a window: more than any window has. Sums of such numbers fit into 64 bits."""


class BreakerConfig(Strict):
    """The circuit breaker of each version of a model.

    A breaker refuses requests to a version with a high error rate. The results of requests come
    from `telemetry.reports`.
    """

    enabled: bool = True
    window: PositiveDuration = Field(
        10.0, le=600, description="Length of the sliding window of the error rate."
    )
    buckets: int = Field(
        40,
        ge=2,
        le=120,
        description="Parts of the window. The window slides by one part at a time.",
    )
    min_volume: int = Field(
        20,
        ge=1,
        le=MAX_REQUESTS,
        description="Requests in the window below which the breaker stays closed.",
    )
    sample: int = Field(
        200,
        ge=1,
        le=MAX_REQUESTS,
        description="Maximum number of the newest requests in the window that count. With many "
        "requests, a lower value detects a new failure sooner.",
    )
    refuse_above: Share = Field(0.30, description="Error rate above which requests are refused.")
    reduce_above: Share = Field(
        0.10, description="Error rate above which only the share `admit` of requests is admitted."
    )
    admit: Share = Field(
        0.5, description="Share of requests admitted above `reduce_above`, up to `refuse_above`."
    )
    probe_interval: PositiveDuration = Field(
        0.2,
        le=60,
        description="Interval of probes. A probe is a request that an open breaker admits.",
    )
    probe_successes: int = Field(
        10, ge=1, le=1000, description="Consecutive successes after which an open breaker closes."
    )
    retry_after: Duration = Field(
        1.0,
        le=3600,
        description="Value of `Retry-After` in refusals, in whole seconds and at least 1.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.reduce_above > self.refuse_above:
            raise invalid("write a number of at most refuse_above", ("reduce_above",))
        if self.sample < self.min_volume:
            raise invalid("write a number of at least min_volume", ("sample",))
        return self
