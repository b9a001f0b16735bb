"""What the staged Envoys saw, and what the other Envoys saw at the same time.

Envoys are staged while a change of the config is rolled out to them only (`xds.rollout`). Without
staged Envoys, nothing is counted here.
"""

from collections.abc import Collection, Container, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Final

from xds.envoys.reporters import SILENT_AFTER, SOURCES, Counts, Reporter, SourceName
from xds.envoys.series import MAX_SERIES, Bucket, Series

NOTHING: Final = Counts(0, 0)


@dataclass(slots=True)
class _Pair:
    """The counts of one version."""

    staged: Series = field(default_factory=Series)
    others: Series = field(default_factory=Series)


class Cohorts:
    """The counts of both sorts of Envoys. `nodes` are the ids of the staged ones."""

    def __init__(self) -> None:
        self.nodes: frozenset[str] = frozenset()
        self._pairs: dict[SourceName, dict[str, _Pair]] = {}
        self.end()

    def begin(self, nodes: Collection[str]) -> None:
        """These Envoys are staged. The counts start at zero."""
        self.end()
        self.nodes = frozenset(nodes)

    def end(self) -> None:
        """No Envoy is staged."""
        self.nodes = frozenset()
        self._pairs = {source: {} for source in SOURCES}

    def add(
        self,
        reporter: Reporter,
        now: float,
        counts: Mapping[str, Counts],
        staged: Mapping[str, Counts],
        known: Container[str],
    ) -> None:
        """Add counts of a report, which are those of versions in `known`, if an Envoy is staged.

        `staged`: the part of them that a worker has seen of staged Envoys. An Envoy reports what it
        has seen itself. Late counts say nothing about the present.
        """
        if not self.nodes:
            return
        if reporter.source == "envoy":
            staged = counts if reporter.node in self.nodes else {}
        pairs = self._pairs[reporter.source]
        for cluster, each in counts.items():
            pair = pairs.get(cluster)
            if pair is None:
                if cluster not in known or len(pairs) >= MAX_SERIES:
                    continue
                pair = pairs[cluster] = _Pair()
            if each.seconds <= SILENT_AFTER:
                part = staged.get(cluster, NOTHING)
                pair.staged.add(now, part)
                pair.others.add(now, _without(each, part))

    def since(
        self, source: SourceName, start: float
    ) -> Iterator[tuple[str, Iterator[Bucket], Iterator[Bucket]]]:
        """Each cluster with the buckets that began at this time or later: staged, and others."""
        for cluster, pair in self._pairs[source].items():
            yield cluster, pair.staged.since(start), pair.others.since(start)

    def staged_only(self, start: float) -> Set[str]:
        """The clusters to which only staged Envoys have sent requests since this time."""
        pairs = [each for source in SOURCES for each in self._pairs[source].items()]
        staged = {name for name, each in pairs if _has_requests(each.staged, start)}
        return staged - {name for name, each in pairs if _has_requests(each.others, start)}


def _has_requests(series: Series, start: float) -> bool:
    return any(bucket.requests for bucket in series.since(start))


def _without(whole: Counts, part: Counts) -> Counts:
    """The counts that are not among the part. A worker that lies cannot make them negative."""
    return replace(
        whole,
        requests=max(0, whole.requests - part.requests),
        errors=max(0, whole.errors - part.errors),
        latencies={
            number: rest
            for number, count in whole.latencies.items()
            if (rest := count - part.latencies.get(number, 0)) > 0
        },
    )
