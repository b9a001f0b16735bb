"""What Envoys and workers saw of each version: requests, errors and latencies in sliding windows.

Pure: times are passed in, as seconds on one monotonic clock. Sources (`load_reports`,
`worker_reports`) call `join` for each stream, and the reporter that it returns for each report.
A caller that judges a version calls `window`, and must look at its `state` first: without reports,
there are no errors either.

A worker reports finished requests, with the breaker's definition of an error, and latencies. An
Envoy reports requests to endpoints, with its own definition of an error: a request that Envoy
repeats counts once for each attempt. Both see the same traffic, so a window has the counts of one
source only.
"""

from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Final, Literal, TypeVar

from sluice.contract.names import cluster_name, split_cluster_name
from sluice.contract.traffic import REPORT_INTERVAL
from xds.envoys.cohorts import Cohorts
from xds.envoys.histogram import Histogram
from xds.envoys.reporters import (
    CLOSED_BREAKER,
    SILENT_AFTER,
    SOURCES,
    BreakerView,
    Comparison,
    Counts,
    Presence,
    Reporter,
    SourceName,
    has_left,
    is_silent,
    presence_of,
)
from xds.envoys.series import MAX_SERIES, MAX_WINDOW, Bucket, Series, Total
from xds.protocol.shared_names import OverLimitError

T = TypeVar("T")

FORGET_AFTER: Final = 30.0
"""Seconds for which a reporter that has left still counts as silent: it may come back, and the
traffic meanwhile is not known. Envoy reconnects within 5 s."""

MAX_REPORTERS: Final = 2048
"""Reporters of one source, with those that have left lately: as many as have streams for their
config, twice."""

State = Literal["current", "stale", "missing"]
"""`current`: every reporter has reported lately. `stale`: some reporter is silent or has just left,
so a part of the traffic may be missing. `missing`: there is no reporter, so nothing is known."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen of a version in the last seconds.

    `source`: who has counted; None if the state is `missing`. `nodes` are the ids of the nodes that
    have reported lately, `silent` those of the others. `age`: seconds since the report of the
    reporter whose latest report is the oldest; None without reporters. `covered`: for how many
    seconds before now, at most those of the window, the counts are complete. It is less than the
    whole window after a start, and after some node was silent.
    `in_progress`: requests that had not ended at the latest report; None if the source does not
    say. `comparison`: of the answers to copies of requests, which only workers report. Copies are
    not among the `requests` that workers count.
    """

    source: SourceName | None
    state: State
    requests: int
    errors: int
    nodes: tuple[str, ...]
    silent: tuple[str, ...]
    age: float | None
    covered: float
    in_progress: int | None
    latencies: Histogram
    comparison: Comparison = field(default_factory=Comparison)

    @property
    def error_rate(self) -> float | None:
        """The share of errors; None without requests."""
        return self.errors / self.requests if self.requests else None

    def quantile(self, share: float) -> float | None:
        """The latency in seconds that this share (0 to 1) of the requests does not exceed.

        None if the source reports no latencies, or has seen no request.
        """
        return self.latencies.quantile(share)


class Observations:
    """The counts of all reporters. Nothing is counted before `configure`."""

    def __init__(self) -> None:
        self._clusters: Container[str] = ()
        self._sources = SOURCES
        self.totals: dict[SourceName, dict[str, Total]] = {name: {} for name in SOURCES}
        self.refused: Counter[str] = Counter(dict.fromkeys(SOURCES, 0))
        """Streams that were ended because of what the client sent."""
        self.unknown = 0
        """Counts of versions that are not in the config, and of those beyond `MAX_SERIES`."""
        self.cohorts = Cohorts()
        self._series: dict[SourceName, dict[str, Series]] = {name: {} for name in SOURCES}
        self._reporters: dict[SourceName, set[Reporter]] = {name: set() for name in SOURCES}
        self._complete_since: dict[SourceName, float] = {}
        self._expected: Callable[[SourceName], Collection[str]] = lambda _: ()
        self._presence: tuple[SourceName, float, Presence] | None = None
        self._swept = 0.0

    def configure(self, clusters: Container[str], sources: Sequence[SourceName] = SOURCES) -> None:
        """Set the clusters of versions, and the sources of windows, the preferred one first."""
        self._clusters, self._sources = clusters, sources

    def expect(self, nodes: Callable[[SourceName], Collection[str]]) -> None:
        """Set which nodes must report. Those that do not are silent."""
        self._expected = nodes

    def join(self, source: SourceName, node: str, now: float) -> Reporter:
        """A new stream of a node. It is silent until its first report.

        Raises OverLimitError if there are too many.
        """
        self._forget(now)
        if len(self._reporters[source]) >= MAX_REPORTERS:
            raise OverLimitError(f"more than {MAX_REPORTERS} reporters")
        reporters = self._reporters[source]
        if not reporters or any(each.node == node and has_left(each, now) for each in reporters):
            self.interrupt(source, now)
        reporter = Reporter(self, source, node)
        reporters.add(reporter)
        self.on_change()
        return reporter

    def on_change(self) -> None:
        """A reporter has joined, reported or left."""
        self._presence = None

    def interrupt(self, source: SourceName, now: float) -> None:
        """Before this time, some traffic is missing."""
        self._complete_since[source] = now

    def add(self, source: SourceName, now: float, counts: Mapping[str, Counts]) -> None:
        """Add counts to the present bucket of each version.

        Counts of more than `SILENT_AFTER` seconds are late, for example those of an Envoy that was
        cut off. They add to the totals, but to no window.
        """
        series, totals, known = self._series[source], self.totals[source], self._clusters
        for cluster, each in counts.items():
            found = series.get(cluster)
            if found is None:
                if cluster not in known or len(series) >= MAX_SERIES:
                    self.unknown += 1
                    continue
                found = series[cluster] = Series()
            if each.seconds <= SILENT_AFTER:
                found.add(now, each)
            else:
                self.interrupt(source, now)
            total = totals.setdefault(cluster, Total())
            total.requests += each.requests
            total.errors += each.errors
            total.comparison.merge(each.comparison)
        self._forget(now)

    def add_staged(
        self,
        reporter: Reporter,
        now: float,
        counts: Mapping[str, Counts],
        staged: Mapping[str, Counts],
    ) -> None:
        """Add counts to the present buckets of the staged Envoys and of the others."""
        self.cohorts.add(reporter, now, counts, staged, self._clusters)

    def of_known(self, states: Mapping[str, T]) -> Mapping[str, T]:
        """The states of clusters that the config has."""
        return {name: each for name, each in states.items() if name in self._clusters}

    def window(
        self,
        model: str,
        version: str,
        seconds: float,
        now: float,
        source: SourceName | None = None,
    ) -> Window:
        """What was seen of a version in the last seconds, at most `MAX_WINDOW`.

        A bucket counts only if all of it is in the window, so nothing older is counted. Without
        `source`, it is the same for all versions: that of workers if there are any.
        """
        self._forget(now)
        chosen = source or self._source()
        if chosen is None or not (reporters := self._reporters[chosen]):
            return Window(None, "missing", 0, 0, (), (), None, 0.0, None, Histogram())
        cluster = cluster_name(model, version)
        total = Bucket(0)
        series = self._series[chosen].get(cluster)
        if series is not None:
            for bucket in series.since(now - min(seconds, MAX_WINDOW)):
                total.merge(bucket)
        presence = self._present(chosen, now)
        return Window(
            source=chosen,
            state="stale" if presence.silent else "current",
            requests=total.requests,
            errors=total.errors,
            nodes=presence.nodes,
            silent=presence.silent,
            age=presence.age,
            covered=self._complete(chosen, seconds, now),
            in_progress=(
                sum(each.in_progress.get(cluster, 0) for each in reporters)
                if chosen == "envoy"
                else None
            ),
            latencies=total.latencies,
            comparison=total.comparison,
        )

    def coverage(self, seconds: float, now: float) -> tuple[SourceName, float] | None:
        """The source of windows, and for how many of the last seconds its counts are complete.

        None if some reporter is silent, or there is none.
        """
        source = self._source()
        if source is None or self._present(source, now).silent:
            return None
        return source, self._complete(source, seconds, now)

    def _complete(self, source: SourceName, seconds: float, now: float) -> float:
        """For how many of the last seconds the counts of a source are complete."""
        return min(seconds, MAX_WINDOW, now - self._complete_since[source])

    def busiest(self, seconds: float, now: float, limit: int) -> list[tuple[str, str]]:
        """The models and versions with requests or copies in the window, at most `limit`.

        Those with the most errors come first, then those with the most requests.
        """
        source = self._source()
        if source is None:
            return []
        found = []
        for cluster, series in self._series[source].items():
            buckets = list(series.since(now - min(seconds, MAX_WINDOW)))
            requests = sum(each.requests for each in buckets)
            if requests or any(each.comparison.chosen for each in buckets):
                found.append((sum(each.errors for each in buckets), requests, cluster))
        return [split_cluster_name(each[2]) for each in nlargest(limit, found)]

    @property
    def reporters(self) -> list[Reporter]:
        """The reporters that have not left."""
        found = (each for source in SOURCES for each in self._reporters[source])
        return [each for each in found if each.left_at is None]

    def _present(self, source: SourceName, now: float) -> Presence:
        """Who has reported lately. It is the same for the windows of all versions."""
        if self._presence is None or self._presence[:2] != (source, now):
            found = presence_of(self._reporters[source], self._expected(source), now)
            self._presence = source, now, found
        return self._presence[2]

    def _source(self) -> SourceName | None:
        return next((name for name in self._sources if self._reporters[name]), None)

    def breaker(self, model: str, version: str, now: float) -> BreakerView | None:
        """The breaker of a version that admits the least, of all workers that have reported lately.

        None if there is no such worker: then the state is not known.
        """
        cluster = cluster_name(model, version)
        views = [each.breakers.get(cluster, CLOSED_BREAKER) for each in self._workers(now)]
        return max(views, key=lambda view: view.state, default=None)

    def breakers(self, now: float) -> Mapping[str, BreakerView] | None:
        """The breakers that workers report, by the name of the cluster.

        Of the reports of one breaker, it has the one that admits the least. A breaker that is not
        reported is closed, and has no requests in its window. None if no worker has reported
        lately: then nothing is known.
        """
        found: dict[str, BreakerView] = {}
        known, workers = self._clusters, self._workers(now)
        for worker in workers:
            for cluster, view in worker.breakers.items():
                if cluster in known and _weight(view) > _weight(found.get(cluster)):
                    found[cluster] = view
        return found if workers else None

    def unprotected(self, now: float) -> int:
        """How many versions have no breaker in some worker, because there is no room for it."""
        return max((each.unprotected for each in self._workers(now)), default=0)

    def _workers(self, now: float) -> Sequence[Reporter]:
        """The workers that have reported lately."""
        self._forget(now)
        return [
            each
            for each in self._reporters["worker"]
            if each.left_at is None and not is_silent(each, now)
        ]

    def _forget(self, now: float) -> None:
        """Forget reporters that left long ago, and versions without requests or without config."""
        if now - self._swept < REPORT_INTERVAL:
            return
        self._swept, known = now, self._clusters
        for source in SOURCES:
            reporters = self._reporters[source]
            present = {each.node for each in reporters if each.left_at is None}
            reporters -= {
                each
                for each in reporters
                if each.left_at is not None
                and (each.node in present or now - each.left_at >= FORGET_AFTER)
            }
            series = self._series[source]
            for name in [n for n, each in series.items() if each.is_old(now) or n not in known]:
                del series[name]
            totals = self.totals[source]
            for name in [name for name in totals if name not in known]:
                del totals[name]


def _weight(view: BreakerView | None) -> tuple[int, int]:
    """The order of the reports of one breaker."""
    return (-1, 0) if view is None else (view.state, view.requests)
