"""Thresholds and window of a model's circuit breaker."""

from typing import Self

from pydantic import Field, model_validator

from sluice.config.values import Duration, PositiveDuration, Share, Strict


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
