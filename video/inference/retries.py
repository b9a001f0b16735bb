"""When a failed request for frames is sent again. Pure: times and randomness are passed in."""

from typing import Final

from video.inference.failure import Failure

FIRST_DELAY: Final = 0.05
"""Seconds before the first retry, on average."""

_MIN_TIME: Final = 0.01
"""Seconds that must remain after the delay. A model needs about as long."""


def retry_delay(
    failure: Failure, retries: int, max_retries: int, remaining: float, random: float
) -> float | None:
    """Seconds to wait before a retry. None: there is no retry.

    `retries`: those that have failed. `remaining`: seconds until the deadline. `random`: from 0 to
    1; it spreads the requests of streams that fail together.
    """
    if not failure.may_pass or retries >= max_retries:
        return None
    delay = FIRST_DELAY * 2**retries * (0.5 + random)
    if failure.retry_after is not None:
        delay = max(delay, failure.retry_after)
    return delay if delay + _MIN_TIME <= remaining else None
