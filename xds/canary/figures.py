"""What was seen of a canary and of the stable version since a step began.

Each control plane sees the traffic of the Envoys and workers that are connected to it. The sum over
all control planes of a gateway is what a canary is judged by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from xds.envoys.criteria import P99, Figures
from xds.envoys.histogram import Histogram
from xds.envoys.reporters import SourceName


@dataclass(frozen=True, slots=True)
class Counts:
    """The requests to one version, in a form that can be added. `bins`: latencies by bin."""

    requests: int = 0
    errors: int = 0
    bins: Mapping[int, int] = field(default_factory=dict)

    @property
    def figures(self) -> Figures:
        """What the counts say."""
        latencies = Histogram()
        latencies.add(self.bins)
        return Figures(self.requests, self.errors, latencies.quantile(P99))

    @classmethod
    def sum(cls, counts: Iterable[Self]) -> Self:
        """The counts of several control planes."""
        requests, errors, latencies = 0, 0, Histogram()
        for each in counts:
            requests += each.requests
            errors += each.errors
            latencies.add(each.bins)
        return cls(requests, errors, latencies.bins)


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of requests that say something about the canary.

    `agreed` of them have an answer that agrees. `max_difference`: the largest absolute difference
    of two numbers at the same place of tensors.
    """

    copies: int = 0
    agreed: int = 0
    max_difference: float = 0.0

    @property
    def agreement(self) -> float | None:
        """The share of copies whose answer agrees; None without copies."""
        return self.agreed / self.copies if self.copies else None

    @classmethod
    def sum(cls, copies: Iterable[Self]) -> Self:
        """The copies of several control planes."""
        total, agreed, difference = 0, 0, 0.0
        for each in copies:
            total += each.copies
            agreed += each.agreed
            difference = max(difference, each.max_difference)
        return cls(total, agreed, difference)


@dataclass(frozen=True, slots=True)
class Part:
    """What one control plane has seen of a step. `seconds`: for how long its counts are complete.

    `source` is who has counted; None if nobody reports to it. `gap` says why the counts cannot be
    used now; empty if they can.
    """

    seconds: float
    source: SourceName | None
    gap: str
    canary: Counts = Counts()
    stable: Counts = Counts()
    is_open: bool = False
    """Whether a worker has opened the breaker of the canary."""
    copies: Copies = Copies()


@dataclass(frozen=True, slots=True)
class Seen:
    """What all control planes have seen of a step, with the fields of `Part`."""

    seconds: float
    gap: str
    canary: Figures
    stable: Figures
    is_open: bool = False
    copies: Copies = Copies()


def combined(parts: Iterable[Part]) -> Seen:
    """What the control planes have seen together. Those without reporters have nothing to add."""
    known = [part for part in parts if part.source is not None or part.gap]
    gaps = [part.gap for part in known if part.gap]
    if not known:
        gaps = ["no Envoy or worker reports traffic"]
    elif len({part.source for part in known if part.source is not None}) > 1:
        gaps.append("control planes get reports from different sources")
    return Seen(
        seconds=min((part.seconds for part in known), default=0.0),
        gap=gaps[0] if gaps else "",
        canary=Counts.sum(part.canary for part in known).figures,
        stable=Counts.sum(part.stable for part in known).figures,
        is_open=any(part.is_open for part in known),
        copies=Copies.sum(part.copies for part in known),
    )
