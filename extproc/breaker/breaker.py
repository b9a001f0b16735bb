"""The breaker stage of the decision: refuses requests to a version that fails.

A worker evaluates the versions for which it has recorded results, and tells the other workers about
failures and changes (`news.py`). Otherwise, only time changes the state of a version, and only if
the version is not closed or has failures in its window. These versions are watched. So the work
does not grow with the number of versions. Times are seconds on a clock that all processes of the
machine share (CLOCK_MONOTONIC).
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from extproc.breaker.news import News
from extproc.breaker.version import MICROS_PER_SECOND, VersionBreaker
from extproc.breaker.window import BreakerState, WindowBucket, error_rate
from extproc.counter_table import CounterTable, TableFullError
from sluice.config.breaker import BreakerConfig

UPDATE_INTERVAL = 20_000
"""Minimum microseconds between two updates by requests or results: an evaluation reads the whole
window of every worker."""


@dataclass(frozen=True, slots=True)
class BreakerVerdict:
    """Whether a request may go to the version, and if not, when to retry (in seconds)."""

    admitted: bool
    state: BreakerState
    probe: bool = False
    retry_after: float = 0.0


ADMITTED = BreakerVerdict(admitted=True, state=BreakerState.CLOSED)


@dataclass(slots=True)
class BreakerSummary:
    """State of a version, with the error rate and the requests in its window.

    After the breaker has closed, the window has only newer requests. `error_rate` is None below the
    minimum volume.
    """

    state: BreakerState
    error_rate: float | None
    volume: int


class Breaker:
    """The breakers of all versions. The keys of `configs` are the names of their clusters."""

    def __init__(self, table: CounterTable, configs: Mapping[str, BreakerConfig]) -> None:
        self._table = table
        self._news = News(table)
        self._configs: dict[str, BreakerConfig] = {}
        self._versions: dict[str, VersionBreaker | None] = {}
        self._protected: set[str] = set()
        self._clusters: dict[int, str] = {}
        self._watched: dict[str, VersionBreaker] = {}
        self._in_window: set[str] = set()
        # In the order of the config, so that a full table has room for the same versions each time.
        self._due: dict[str, None] = {}
        self._update_at = 0
        self._not_closed: set[str] = set()
        self._has_changed = False
        self._on_change: Callable[[], None] = _ignore
        self.configure(configs)

    def configure(self, configs: Mapping[str, BreakerConfig]) -> None:
        """Replace the configs. A version with an unchanged window keeps its counts and state.

        The next update evaluates the versions that are new or have another config.
        """
        enabled = {name: config for name, config in configs.items() if config.enabled}
        previous, self._configs = self._configs, enabled
        for name, config in previous.items():
            # Most configs are the same objects, and sections are compared slowly.
            if (now := configs.get(name)) is not config and now != config:
                self._forget(name)
        new = [name for name in enabled if name not in self._versions]
        self._due.update(dict.fromkeys(new))
        # Other processes may have counted requests to them.
        self._in_window.update(new)
        self._in_window &= enabled.keys()
        self._update_at = 0
        removed = self._not_closed - enabled.keys()
        if removed:
            self._not_closed -= removed
            self._on_change()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this when `not_closed` has changed. The callback must not block."""
        self._on_change = callback

    @property
    def not_closed(self) -> Set[str]:
        """The clusters whose breaker admits only a share of the requests, or only probes."""
        return self._not_closed

    def record(self, now: float, cluster: str, ok: bool, count: int = 1) -> None:
        """Count `count` requests as successes of the version, or as failures if not `ok`.

        The next update evaluates the version.
        """
        version = self._version(cluster)
        if version is None:
            return
        self._in_window.add(cluster)
        if version.record(int(now * MICROS_PER_SECOND), count, ok=ok):
            self._news.add(version.first_column)
        # Successes do not change a version without failures.
        if not ok or cluster in self._watched:
            self._due[cluster] = None

    def admit(self, now: float, cluster: str, draw: float) -> BreakerVerdict:
        """Decide whether to admit a request to the version. `draw` is a random number in [0, 1)."""
        micros = int(now * MICROS_PER_SECOND)
        if micros >= self._update_at:
            self._update(micros)
        version = self._version(cluster)
        if version is None or version.state is BreakerState.CLOSED:
            return ADMITTED
        if version.state is BreakerState.REDUCED:
            if draw < version.config.admit:
                return BreakerVerdict(admitted=True, state=BreakerState.REDUCED)
        elif version.take_probe(micros):
            return BreakerVerdict(admitted=True, state=BreakerState.OPEN, probe=True)
        retry_after = version.config.retry_after
        return BreakerVerdict(admitted=False, state=version.state, retry_after=retry_after)

    def update(self, now: float) -> None:
        """Evaluate the versions with news, and those that time may change."""
        self._update(int(now * MICROS_PER_SECOND))

    def update_if_due(self, now: float) -> None:
        """Update, unless the latest update was less than `UPDATE_INTERVAL` ago."""
        micros = int(now * MICROS_PER_SECOND)
        if micros >= self._update_at:
            self._update(micros)

    @property
    def unprotected(self) -> int:
        """How many versions have no breaker, because the table has no room for them."""
        return sum(version is None for version in self._versions.values())

    @property
    def protected(self) -> Set[str]:
        """The clusters of the versions that have a breaker, as of the latest update."""
        return self._protected

    def active(self, now: float) -> dict[str, BreakerSummary]:
        """Evaluate the breakers that may not be idle, and return those that are not, by cluster.

        An idle breaker is closed, and has no requests in its window. Requests that only other
        workers have counted do not matter, unless some of them failed.
        """
        self.update(now)
        found = {}
        for cluster in self._in_window | self._watched.keys():
            summary = self.summary(now, cluster)
            if summary is not None and (summary.volume or summary.state is not BreakerState.CLOSED):
                found[cluster] = summary
            else:
                self._in_window.discard(cluster)
        return found

    def summary(self, now: float, cluster: str) -> BreakerSummary | None:
        """Evaluate the breaker of a version; None if the version has none."""
        version = self._version(cluster)
        if version is None:
            return None
        window = self._evaluate(int(now * MICROS_PER_SECOND), cluster, version)
        self._announce()
        volume = sum(succeeded + failed for succeeded, failed in window)
        return BreakerSummary(version.state, error_rate(window, version.config), volume)

    def _version(self, cluster: str) -> VersionBreaker | None:
        try:
            return self._versions[cluster]
        except KeyError:
            config = self._configs.get(cluster)
            if config is None:
                return None
        try:
            version = VersionBreaker(self._table, cluster, config)
        except TableFullError:
            self._versions[cluster] = None
            return None
        self._versions[cluster] = version
        self._protected.add(cluster)
        self._clusters[version.first_column] = cluster
        return version

    def _forget(self, cluster: str) -> None:
        version = self._versions.pop(cluster, None)
        if version is not None:
            del self._clusters[version.first_column]
            self._protected.discard(cluster)
        self._watched.pop(cluster, None)

    def _update(self, now: int) -> None:
        self._update_at = now + UPDATE_INTERVAL
        news = self._news.read()
        if news is None:
            self._due.update(dict.fromkeys(self._configs))
        elif news:
            self._due.update(
                (self._clusters[item], None) for item in news if item in self._clusters
            )
        if self._watched:
            self._due.update(
                (cluster, None)
                for cluster, version in self._watched.items()
                if now >= version.next_evaluation
            )
        if self._due:
            due, self._due = self._due, {}
            for cluster in due:
                version = self._version(cluster)
                if version is not None:
                    self._evaluate(now, cluster, version)
            self._announce()

    def _evaluate(self, now: int, cluster: str, version: VersionBreaker) -> list[WindowBucket]:
        """Evaluate a version, watch it if necessary, and tell the other workers of a change."""
        before = version.state
        window = version.evaluate(now)
        closed = version.state is BreakerState.CLOSED
        if closed and not version.has_failures:
            self._watched.pop(cluster, None)
        else:
            self._watched[cluster] = version
        if version.state is not before:
            self._news.add(version.first_column)
        if closed is (cluster in self._not_closed):
            self._not_closed ^= {cluster}
            self._has_changed = True
        return window

    def _announce(self) -> None:
        if self._has_changed:
            self._has_changed = False
            self._on_change()


def _ignore() -> None:
    """Nothing depends on the states of the breakers."""
