"""Token bucket for frames that cost the server more than they cost the peer."""

from extproc.transport.http2.errors import AbuseError
from extproc.transport.limits import Rate


class RateBucket:
    """The token bucket of one `Rate`; the caller passes the time in, in seconds."""

    __slots__ = ("_burst", "_filled_at", "_limit", "_per_second", "_tokens")

    def __init__(self, limit: str, rate: Rate, now: float) -> None:
        self._limit = limit
        self._burst = rate.burst
        self._per_second = rate.per_second
        self._tokens: float = rate.burst
        self._filled_at = now

    def charge(self, now: float) -> None:
        """Take one token; raises AbuseError when the bucket is empty."""
        if self._tokens < 1:
            refill = (now - self._filled_at) * self._per_second
            self._tokens = min(self._burst, self._tokens + refill)
            self._filled_at = now
            if self._tokens < 1:
                raise AbuseError(self._limit)
        self._tokens -= 1
