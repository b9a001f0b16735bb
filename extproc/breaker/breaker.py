"""The breaker stage of the decision: refuses requests to a version that fails.

Every worker counts the results that Envoy reports to it, in its own row of the shared table. It
evaluates the sum of all rows, so all workers have the same state. When the breaker opens or closes,
the worker writes the time to the table; the latest entry of all rows counts. Times are seconds on a
clock that all processes of the machine share (CLOCK_MONOTONIC).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from extproc.breaker.window import (
    BreakerState,
    WindowBucket,
    error_rate,
    recovered,
    state_from_window,
)
from extproc.counter_table import CounterTable, TableFullError
from sluice.config.breaker import BreakerConfig

MICROS_PER_SECOND = 1_000_000

EVALUATION_INTERVAL = 20_000
"""Microseconds between evaluations: an evaluation reads the whole window of every worker."""

_CELLS = 3
"""Columns of a bucket: its number (0: never used), successes, failures."""


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


@dataclass(slots=True)
class _Version:
    """The breaker of one version, and its columns in the table."""

    config: BreakerConfig
    first_column: int
    bucket_width: int
    """Microseconds."""
    state: BreakerState = BreakerState.CLOSED
    evaluate_at: int = 0

    @property
    def slots(self) -> int:
        """Buckets in the table: one more than in the window, because one is being overwritten."""
        return self.config.buckets + 1

    @property
    def change_column(self) -> int:
        """Column of the latest change: its time in microseconds, times 2, plus 1 if it opened."""
        return self.first_column + self.slots * _CELLS

    @property
    def probe_column(self) -> int:
        """Column of the number of the latest probe interval in which a probe was admitted."""
        return self.change_column + 1

    @property
    def latest_column(self) -> int:
        """Column of the number of the latest bucket."""
        return self.change_column + 2

    @property
    def columns(self) -> int:
        """Number of columns of the version."""
        return self.slots * _CELLS + 3


class Breaker:
    """The breakers of all versions. The keys of `configs` are the names of their clusters."""

    def __init__(self, table: CounterTable, configs: Mapping[str, BreakerConfig]) -> None:
        self._table = table
        self._configs: dict[str, BreakerConfig] = {}
        self._versions: dict[str, _Version | None] = {}
        self.configure(configs)

    def configure(self, configs: Mapping[str, BreakerConfig]) -> None:
        """Replace the configs. A version with an unchanged window keeps its counts and state."""
        changed = {name for name, config in self._configs.items() if configs.get(name) != config}
        for name in changed:
            self._versions.pop(name, None)
        self._configs = {name: config for name, config in configs.items() if config.enabled}

    def record(self, now: float, cluster: str, ok: bool, count: int = 1) -> None:
        """Count `count` requests as successes of the version, or as failures if not `ok`."""
        version = self._version(cluster)
        if version is None:
            return
        number = int(now * MICROS_PER_SECOND) // version.bucket_width + 1
        column = version.first_column + number % version.slots * _CELLS
        table = self._table
        if table.get(column) != number:
            table.set(column + 1, 0)
            table.set(column + 2, 0)
            table.set(column, number)
            table.set(version.latest_column, number)
        table.add(column + (1 if ok else 2), count)

    def admit(self, now: float, cluster: str, draw: float) -> BreakerVerdict:
        """Decide whether to admit a request to the version. `draw` is a random number in [0, 1)."""
        version = self._version(cluster)
        if version is None:
            return ADMITTED
        micros = int(now * MICROS_PER_SECOND)
        if micros >= version.evaluate_at:
            version.evaluate_at = micros + EVALUATION_INTERVAL
            self._evaluate(micros, version)
        if version.state is BreakerState.CLOSED:
            return ADMITTED
        if version.state is BreakerState.REDUCED:
            if draw < version.config.admit:
                return BreakerVerdict(admitted=True, state=BreakerState.REDUCED)
        elif self._probe(micros, version):
            return BreakerVerdict(admitted=True, state=BreakerState.OPEN, probe=True)
        retry_after = version.config.retry_after
        return BreakerVerdict(admitted=False, state=version.state, retry_after=retry_after)

    @property
    def unprotected(self) -> int:
        """How many versions have no breaker, because the table has no room for them."""
        return sum(version is None for version in self._versions.values())

    def status(self, now: float) -> dict[str, BreakerSummary]:
        """Evaluate all breakers, and return their states by cluster."""
        found = ((cluster, self.summary(now, cluster)) for cluster in self._configs)
        return {cluster: summary for cluster, summary in found if summary is not None}

    def summary(self, now: float, cluster: str) -> BreakerSummary | None:
        """Evaluate the breaker of a version; None if the version has none."""
        version = self._version(cluster)
        if version is None:
            return None
        micros = int(now * MICROS_PER_SECOND)
        buckets = self._buckets(micros, version, self._evaluate(micros, version))
        volume = sum(succeeded + failed for succeeded, failed in buckets)
        return BreakerSummary(version.state, error_rate(buckets, version.config), volume)

    def _version(self, cluster: str) -> _Version | None:
        try:
            return self._versions[cluster]
        except KeyError:
            config = self._configs.get(cluster)
            if config is None:
                return None
        width = int(config.window * MICROS_PER_SECOND) // config.buckets
        version = _Version(config, 0, width)
        try:
            # Buckets of another width or number have other columns, because they are incompatible.
            name = f"breaker:{cluster}:{version.bucket_width}:{config.buckets}"
            version.first_column = self._table.column(name, version.columns)
        except TableFullError:
            self._versions[cluster] = None
            return None
        self._versions[cluster] = version
        return version

    def _evaluate(self, now: int, version: _Version) -> int:
        """Update the state. Returns the number of the first bucket that counts."""
        change = max(self._table.values(version.change_column))
        changed_at, is_open = change >> 1, bool(change & 1)
        first = changed_at // version.bucket_width + 1 if change else 0
        if is_open and recovered(self._buckets(now, version, first + 1), version.config):
            self._table.set(version.change_column, now << 1)
            is_open, first = False, now // version.bucket_width + 1
        if is_open:
            version.state = BreakerState.OPEN
            return 0
        version.state = state_from_window(self._buckets(now, version, first), version.config)
        if version.state is BreakerState.OPEN:
            self._table.set(version.change_column, now << 1 | 1)
        return first

    def _buckets(self, now: int, version: _Version, first: int) -> list[WindowBucket]:
        """Return the window, newest bucket first, without the buckets with a number below `first`.

        The list is empty for an idle version. This case comes first, because most versions are idle
        and the metrics read the windows of all.
        """
        newest = now // version.bucket_width + 1
        oldest = max(newest - version.config.buckets + 1, first)
        if max(self._table.values(version.latest_column)) < oldest:
            return []
        succeeded, failed = ([0] * (newest - oldest + 1) for _ in range(2))
        for row in range(self._table.rows):
            cells = self._table.block(row, version.first_column, version.slots * _CELLS)
            for number, successes, failures in zip(
                cells[::_CELLS], cells[1::_CELLS], cells[2::_CELLS], strict=True
            ):
                if oldest <= number <= newest:
                    succeeded[newest - number] += successes
                    failed[newest - number] += failures
        return list(zip(succeeded, failed, strict=True))

    def _probe(self, now: int, version: _Version) -> bool:
        """Return whether the request is the probe of this interval.

        Two workers that check at the same time may both admit a probe.
        """
        interval = now // int(version.config.probe_interval * MICROS_PER_SECOND)
        if max(self._table.values(version.probe_column)) >= interval:
            return False
        self._table.set(version.probe_column, interval)
        return True
