"""How a change of the config is rolled out, and when it is rolled back."""

from typing import Annotated, Final

from pydantic import Field

from sluice.config.values import Duration, PositiveDuration, Share, Strict

MAX_WATCH: Final = 3600.0
"""Seconds for which a change may be judged: later, other things than the change are the cause."""

MAX_REQUESTS: Final = 1_000_000_000
"""Requests that a judgement may need."""


class RolloutCriteria(Strict):
    """What the gateway, and each model that had requests before, must meet after a change.

    A key without a value is not checked. The error rates are those of the breaker: a response with
    a status from 500 or no response is an error. The latencies are those of the model servers.
    """

    max_error_rate: Share | None = Field(
        None, description="Maximum error rate. None: only the increase counts."
    )
    max_error_rate_increase: Share | None = Field(
        0.05,
        description="How much the error rate may exceed that before the change. 0.05: by five "
        "percentage points.",
    )
    max_p99: PositiveDuration | None = Field(
        None, description="Maximum latency that 99 % of the requests do not exceed."
    )
    max_p99_increase: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = Field(
        1.0,
        description="How much this latency may exceed that before the change, as a share of it. "
        "1: twice as long.",
    )
    min_requests: int = Field(
        100,
        ge=1,
        le=MAX_REQUESTS,
        description="Requests in the last minute, or since the change, before they are judged. So "
        "many requests before the change are needed for comparisons with it.",
    )


class RolloutSettings(Strict):
    """How changes of the config are rolled out."""

    nodes: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the connected Envoys that get a change first, at least one. The "
        "others follow after `soak`, unless the `criteria` are not met. 1: all at once.",
    )
    soak: PositiveDuration = Field(
        60.0,
        le=MAX_WATCH,
        description="Time for which the first Envoys are compared with the others.",
    )
    watch: Duration = Field(
        0.0,
        le=MAX_WATCH,
        description="Time after a change in which the config before it comes back if `criteria` "
        "are not met. 0: never. With it, a model server that fails in this time for another reason "
        "undoes the change too.",
    )
    criteria: RolloutCriteria = RolloutCriteria()
