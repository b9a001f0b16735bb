"""Counts copies of requests, by the version that got them."""

from dataclasses import dataclass, field

from extproc.mirror.comparison import Comparison
from protos.observations_pb2 import ComparisonCounts

MAX_VERSIONS = 20_000
"""Versions that are counted since the start: twice as many as a policy can have mirrors."""


@dataclass(slots=True)
class CopyCounts:
    """The copies of one version since the start. `dropped` counts by cause."""

    agreed: int = 0
    disagreed: int = 0
    failed: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


class Counts:
    """The copies of all versions, since the start and since the previous `take`."""

    def __init__(self) -> None:
        self.totals: dict[str, CopyCounts] = {}
        """By name of the cluster."""
        self._new: dict[str, ComparisonCounts] = {}

    def compared(self, cluster: str, result: Comparison) -> None:
        """Count an answer that was compared."""
        total, new = self._of(cluster)
        if result.agreed:
            total.agreed += 1
            new.agreed += 1
        else:
            total.disagreed += 1
        new.compared += 1
        new.max_difference = max(new.max_difference, result.absolute)
        new.max_relative_difference = max(new.max_relative_difference, result.relative)

    def failed(self, cluster: str) -> None:
        """Count a copy without an answer, or with that of a version that has failed."""
        total, new = self._of(cluster)
        total.failed += 1
        new.failed += 1

    def dropped(self, cluster: str, cause: str) -> None:
        """Count a request that was chosen, but not copied or not compared."""
        total, new = self._of(cluster)
        total.dropped[cause] = total.dropped.get(cause, 0) + 1
        new.dropped += 1

    def take(self) -> list[ComparisonCounts]:
        """The counts since the previous call."""
        taken, self._new = list(self._new.values()), {}
        return taken

    def _of(self, cluster: str) -> tuple[CopyCounts, ComparisonCounts]:
        """The counts of a version. Those of versions beyond `MAX_VERSIONS` are lost."""
        if len(self.totals) >= MAX_VERSIONS and cluster not in self.totals:
            return CopyCounts(), ComparisonCounts()
        total = self.totals.setdefault(cluster, CopyCounts())
        return total, self._new.setdefault(cluster, ComparisonCounts(cluster=cluster))
