"""What a breaker concludes from counts: pure, without a clock and without storage.

Counts come as buckets, newest first, each the requests that went well and those that failed in one
step of the sliding window. How long a request took plays no part: slow is not broken.
"""

from collections.abc import Sequence
from enum import IntEnum

from sluice.config.breaker import BreakerConfig

WindowBucket = tuple[int, int]
"""Requests that went well, requests that failed."""


class BreakerState(IntEnum):
    """What a version's callers meet."""

    CLOSED = 0
    """Everyone gets through."""
    REDUCED = 1
    """A share gets through."""
    OPEN = 2
    """Only probes get through."""


def error_rate(buckets: Sequence[WindowBucket], config: BreakerConfig) -> float | None:
    """Share of failures among the newest `sample` requests, None below the minimum volume.

    Buckets are not split: the one in which the sample is reached counts whole.
    """
    volume = failures = 0
    for well, failed in buckets:
        volume += well + failed
        failures += failed
        if volume >= config.sample:
            break
    return failures / volume if volume >= config.min_volume else None


def judge(buckets: Sequence[WindowBucket], config: BreakerConfig) -> BreakerState:
    """The state of a version that is not open, from its window."""
    rate = error_rate(buckets, config)
    if rate is None or rate <= config.reduce_above:
        return BreakerState.CLOSED
    return BreakerState.OPEN if rate > config.refuse_above else BreakerState.REDUCED


def recovered(buckets: Sequence[WindowBucket], config: BreakerConfig) -> bool:
    """Whether an open version may close, from the buckets after the one in which it opened.

    Enough successes since the last failure, or, where traffic is too thin for that, a whole window
    with successes only.
    """
    successes = 0
    for well, failed in buckets:
        if failed:
            return successes >= config.probe_successes
        successes += well
    whole = len(buckets) >= config.buckets
    return successes >= config.probe_successes or (whole and successes > 0)
