"""Token buckets that charge a peer for what costs more to answer than to send."""

from extproc.transport.http2.errors import AbuseError
from extproc.transport.limits import Rate


class RateBucket:
    """A `Rate` in use; time comes from the caller, in seconds."""

    __slots__ = ("_burst", "_limit", "_per_second", "_since", "_tokens")

    def __init__(self, limit: str, rate: Rate, now: float) -> None:
        self._limit = limit
        self._burst = rate.burst
        self._per_second = rate.per_second
        self._tokens: float = rate.burst
        self._since = now

    def charge(self, now: float) -> None:
        """Take one token; raises AbuseError where there is none."""
        if self._tokens < 1:
            earned = (now - self._since) * self._per_second
            self._tokens = min(self._burst, self._tokens + earned)
            self._since = now
            if self._tokens < 1:
                raise AbuseError(self._limit)
        self._tokens -= 1
