"""Computes the state of a breaker from its counts, without a clock and without storage.

Counts are buckets of a sliding window, newest first. The duration of requests does not matter: a
slow version is not a failing one.
"""

from collections.abc import Sequence
from enum import IntEnum

from sluice.config.breaker import BreakerConfig

WindowBucket = tuple[int, int]
"""Successes and failures."""


class BreakerState(IntEnum):
    """How many requests are admitted. The numbers are the values of the metric."""

    CLOSED = 0
    """All are admitted."""
    REDUCED = 1
    """A share is admitted."""
    OPEN = 2
    """Only probes are admitted."""


def error_rate(buckets: Sequence[WindowBucket], config: BreakerConfig) -> float | None:
    """Return the share of failures in the newest `sample` requests; None below the minimum volume.

    The bucket in which the sample is complete counts in full.
    """
    volume = failures = 0
    for succeeded, failed in buckets:
        volume += succeeded + failed
        failures += failed
        if volume >= config.sample:
            break
    return failures / volume if volume >= config.min_volume else None


def state_from_window(buckets: Sequence[WindowBucket], config: BreakerConfig) -> BreakerState:
    """Return the new state of a breaker that is not open."""
    rate = error_rate(buckets, config)
    if rate is None or rate <= config.reduce_above:
        return BreakerState.CLOSED
    return BreakerState.OPEN if rate > config.refuse_above else BreakerState.REDUCED


def recovered(buckets: Sequence[WindowBucket], config: BreakerConfig) -> bool:
    """Return whether an open breaker may close, from the buckets after the one in which it opened.

    It may close after enough successes since the last failure. With too few requests for that, it
    may close after a whole window without failures and with at least one success.
    """
    successes = 0
    for succeeded, failed in buckets:
        if failed:
            return successes >= config.probe_successes
        successes += succeeded
    whole_window = len(buckets) >= config.buckets
    return successes >= config.probe_successes or (whole_window and successes > 0)
