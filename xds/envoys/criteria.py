"""Judges requests by criteria: of a canary against the stable version, of a gateway after a change
against the time before it.

Pure. A caller must look at the state of the windows first: without reports, there are no errors
either.
"""

from dataclasses import dataclass
from typing import Final, Protocol

P99: Final = 0.99


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests that were seen. `p99` is in seconds; None without latencies."""

    requests: int
    errors: int
    p99: float | None

    @property
    def error_rate(self) -> float:
        """The share of errors; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0


class Criteria(Protocol):
    """What requests must meet. None is not checked. Increases are those from other requests.

    `max_p99_increase` is a share of the other latency.
    """

    @property
    def max_error_rate(self) -> float | None: ...

    @property
    def max_error_rate_increase(self) -> float | None: ...

    @property
    def max_p99(self) -> float | None: ...

    @property
    def max_p99_increase(self) -> float | None: ...

    @property
    def min_requests(self) -> int: ...


def breach(criteria: Criteria, seen: Figures, other: Figures | None, name: str) -> str | None:
    """Why requests do not meet the criteria, with the figures; None if they do.

    Fewer than `min_requests` meet all, and as few of the `other` ones are not compared with. `name`
    is that of the other ones in the text, such as "of the stable version".
    """
    if seen.requests < criteria.min_requests:
        return None
    if other is not None and other.requests < criteria.min_requests:
        other = None
    return _errors(criteria, seen, other, name) or _latency(criteria, seen, other, name)


def _errors(criteria: Criteria, seen: Figures, other: Figures | None, name: str) -> str | None:
    rate, maximum = seen.error_rate, criteria.max_error_rate
    increase = criteria.max_error_rate_increase
    shown = f"{percentage(rate)} of {seen.requests} requests failed"
    if maximum is not None and rate > maximum:
        return f"{shown}, more than {percentage(maximum)}"
    if other is None or increase is None or rate - other.error_rate <= increase:
        return None
    before = percentage(other.error_rate)
    return f"{shown}, over {percentage(increase)} more than the {before} {name}"


def _latency(criteria: Criteria, seen: Figures, other: Figures | None, name: str) -> str | None:
    p99, maximum, increase = seen.p99, criteria.max_p99, criteria.max_p99_increase
    if p99 is None:
        return None
    shown = f"p99 of {seen.requests} requests is {milliseconds(p99)}"
    if maximum is not None and p99 > maximum:
        return f"{shown}, more than {milliseconds(maximum)}"
    if other is None or other.p99 is None or increase is None or p99 <= other.p99 * (1 + increase):
        return None
    return f"{shown}, over {percentage(increase)} more than the {milliseconds(other.p99)} {name}"


def percentage(share: float) -> str:
    """A share as text, such as `2.5 %`."""
    return f"{round(100 * share, 2):g} %"


def milliseconds(seconds: float) -> str:
    """A time as text, such as `12.5 ms`."""
    return f"{round(1000 * seconds, 1):g} ms"
