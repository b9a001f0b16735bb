"""Envoys and workers that report traffic: what one report has, and who has reported lately.

Pure: times are passed in, as seconds on one monotonic clock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeVar

from sluice.contract.traffic import REPORT_INTERVAL

T = TypeVar("T")

SourceName = Literal["worker", "envoy", "video"]

SOURCES: Final[Sequence[SourceName]] = ("worker", "envoy")
"""The first that has reporters is the one of a window."""

SILENT_AFTER: Final = 4 * REPORT_INTERVAL
"""Seconds without a report after which a reporter is silent. Envoy and workers are sometimes busy
with a large config for a second or two."""

MAX_REPORTED: Final = 100_000
"""Versions in one report: 10,000 models with ten versions each."""


class BreakerState(IntEnum):
    """How many requests the breaker of a version admits. The numbers are those of the protocol."""

    CLOSED = 0
    REDUCED = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A breaker as a worker sees it. `error_rate` is None below the minimum volume.

    `requests` counts those in the window of the breaker.
    """

    state: BreakerState
    error_rate: float | None = None
    requests: int = 0


CLOSED_BREAKER: Final = BreakerView(BreakerState.CLOSED)


@dataclass(slots=True)
class Comparison:
    """How the answers of a version to copies of requests compare with those that clients got.

    `agreed` of the `compared` answers agree. `failed` counts copies without an answer, or with a
    status from 500; `dropped` those that were not sent or not compared. The differences are the
    largest of two numbers at the same place of two tensors.
    """

    compared: int = 0
    agreed: int = 0
    failed: int = 0
    dropped: int = 0
    max_difference: float = 0.0
    max_relative_difference: float = 0.0

    @property
    def copies(self) -> int:
        """The copies that say something about the version."""
        return self.compared + self.failed

    @property
    def chosen(self) -> int:
        """The requests that were chosen for mirroring."""
        return self.copies + self.dropped

    @property
    def agreement(self) -> float | None:
        """The share of copies (0 to 1) whose answer agrees; None without copies.

        A copy that failed does not agree.
        """
        return self.agreed / self.copies if self.copies else None

    def merge(self, other: "Comparison") -> None:
        """Add the counts of another comparison."""
        self.compared += other.compared
        self.agreed += other.agreed
        self.failed += other.failed
        self.dropped += other.dropped
        self.max_difference = max(self.max_difference, other.max_difference)
        self.max_relative_difference = max(
            self.max_relative_difference, other.max_relative_difference
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """What one reporter saw of one version since its previous report.

    `latencies`: counts by bin (`sluice.contract.traffic`). `seconds`: how long ago the
    reporter began to count. `comparison`: of the answers to copies of requests.
    """

    requests: int
    errors: int
    latencies: Mapping[int, int] = field(default_factory=dict)
    seconds: float = REPORT_INTERVAL
    comparison: Comparison = field(default_factory=Comparison)


class Reports(Protocol):
    """Takes what the reporters report."""

    def interrupt(self, source: SourceName, now: float) -> None:
        """Before this time, some traffic is missing."""

    def add(self, source: SourceName, now: float, counts: Mapping[str, Counts]) -> None:
        """Add counts to the present bucket of each version."""

    def add_staged(
        self,
        reporter: "Reporter",
        now: float,
        counts: Mapping[str, Counts],
        staged: Mapping[str, Counts],
    ) -> None:
        """Compare what the staged Envoys saw with the rest of the counts."""

    def of_known(self, states: Mapping[str, T]) -> Mapping[str, T]:
        """The states of clusters that the config has. A client may name any number of others."""

    def on_change(self) -> None:
        """A reporter has joined, reported or left."""


class Reporter:
    """One stream of reports. `node` is the id of its Envoy or worker."""

    def __init__(self, reports: Reports, source: SourceName, node: str) -> None:
        self._reports = reports
        self.source: SourceName = source
        self.node = node
        self.reported_at: float | None = None
        self.left_at: float | None = None
        self.in_progress: Mapping[str, int] = {}
        self.breakers: Mapping[str, BreakerView] = {}
        self.unprotected = 0

    def report(
        self,
        now: float,
        counts: Mapping[str, Counts],
        *,
        staged: Mapping[str, Counts] = MappingProxyType({}),
        in_progress: Mapping[str, int] | None = None,
        breakers: Mapping[str, BreakerView] | None = None,
        unprotected: int = 0,
    ) -> None:
        """Count what the reporter saw since its previous report. Keys are names of clusters.

        A report without counts says that there were no requests. `staged`: the part of them that a
        worker has seen of staged Envoys. `in_progress`, `breakers` and `unprotected`, the number of
        versions without a breaker, replace those of the previous report.
        """
        if self.reported_at is not None and now - self.reported_at > SILENT_AFTER:
            self._reports.interrupt(self.source, now)
        self.reported_at = now
        self._reports.on_change()
        self._reports.add(self.source, now, counts)
        self._reports.add_staged(self, now, counts, staged)
        self.in_progress = self._reports.of_known(in_progress or {})
        self.breakers = self._reports.of_known(breakers or {})
        self.unprotected = unprotected

    def age(self, now: float) -> float | None:
        """Seconds since the latest report; None before the first."""
        return None if self.reported_at is None else now - self.reported_at

    def leave(self, now: float) -> None:
        """The stream has ended."""
        self.left_at = now
        self._reports.on_change()
        self.in_progress, self.breakers = {}, {}


def is_silent(reporter: Reporter, now: float) -> bool:
    """Whether the reporter has not reported lately."""
    return reporter.reported_at is None or now - reporter.reported_at > SILENT_AFTER


def has_left(reporter: Reporter, now: float) -> bool:
    """Whether the reporter has left, and not just now to come back."""
    return reporter.left_at is not None and now - reporter.left_at > SILENT_AFTER


@dataclass(frozen=True, slots=True)
class Presence:
    """The nodes that have reported lately, the others, and the age of the oldest latest report."""

    nodes: tuple[str, ...]
    silent: tuple[str, ...]
    age: float | None


def presence_of(reporters: Iterable[Reporter], expected: Collection[str], now: float) -> Presence:
    """Who has reported lately. The nodes that are `expected` and have no stream are silent."""
    nodes, silent, times = list[str](), list[str](), list[float]()
    for each in reporters:
        lately = each.left_at is None and not is_silent(each, now)
        (nodes if lately else silent).append(each.node)
        if each.left_at is None and each.reported_at is not None:
            times.append(each.reported_at)
    silent += set(expected).difference(nodes, silent)
    return Presence(
        tuple(sorted(nodes)), tuple(sorted(silent)), now - min(times) if times else None
    )
