"""Stage of the decision: spares a version that fails, with one opinion in all workers.

Every worker records what it hears into its own row of the shared table and judges by the sum, so
all come to the same conclusion. A change between open and closed is noted in the table with its
time, and the latest note counts. Times are seconds on a clock that all processes of the machine
share (CLOCK_MONOTONIC).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from extproc.breaker.window import BreakerState, WindowBucket, error_rate, judge, recovered
from extproc.counter_table import CounterTable, TableFullError
from sluice.config.breaker import BreakerConfig

MICROS_PER_SECOND = 1_000_000

EVALUATE = 20_000
"""Microseconds for which a conclusion stands: reading the window costs some ten µs per worker."""

_CELLS = 3
"""Of a bucket: its number (0: never used), successes, failures."""


@dataclass(frozen=True, slots=True)
class BreakerVerdict:
    """Whether a request may go to the version; `retry_after` in seconds where it may not."""

    admitted: bool
    state: BreakerState
    probe: bool = False
    retry_after: float = 0.0


ADMITTED = BreakerVerdict(admitted=True, state=BreakerState.CLOSED)


@dataclass(slots=True)
class BreakerStatus:
    """For status pages and metrics: what the window says, of a closed version since it closed.

    `error_rate` is None below the minimum volume.
    """

    state: BreakerState
    error_rate: float | None
    volume: int


@dataclass(slots=True)
class _Version:
    config: BreakerConfig
    block: int
    width: int
    """Microseconds of a bucket."""
    state: BreakerState = BreakerState.CLOSED
    evaluate_at: int = 0

    @property
    def slots(self) -> int:
        # One more than the window has: the slot being overwritten is in nobody's window.
        return self.config.buckets + 1

    @property
    def changed(self) -> int:
        """Column: the time of the last change in µs, times two, plus 1 where it was to open."""
        return self.block + self.slots * _CELLS

    @property
    def probed(self) -> int:
        """Column: the number of the last probe interval in which a probe was let through."""
        return self.changed + 1

    @property
    def latest(self) -> int:
        """Column: the number of the latest bucket."""
        return self.changed + 2

    @property
    def columns(self) -> int:
        return self.slots * _CELLS + 3


class Breaker:
    """The breakers of all versions. `configs` has one for each cluster to be protected."""

    def __init__(self, table: CounterTable, configs: Mapping[str, BreakerConfig]) -> None:
        self._table = table
        self._configs: dict[str, BreakerConfig] = {}
        self._versions: dict[str, _Version | None] = {}
        self.configure(configs)

    def configure(self, configs: Mapping[str, BreakerConfig]) -> None:
        """Follow a new policy. A version whose window is the same keeps its counts and state."""
        changed = {name for name, config in self._configs.items() if configs.get(name) != config}
        for name in changed:
            self._versions.pop(name, None)
        self._configs = {name: config for name, config in configs.items() if config.enabled}

    def record(self, now: float, cluster: str, ok: bool, count: int = 1) -> None:
        """Count what became of requests. Responses a client's own mistake caused are `ok`."""
        version = self._version(cluster)
        if version is None:
            return
        number = int(now * MICROS_PER_SECOND) // version.width + 1
        column = version.block + number % version.slots * _CELLS
        table = self._table
        if table.get(column) != number:
            table.set(column + 1, 0)
            table.set(column + 2, 0)
            table.set(column, number)
            table.set(version.latest, number)
        table.add(column + (1 if ok else 2), count)

    def admit(self, now: float, cluster: str, u: float) -> BreakerVerdict:
        """Whether a request goes to the version; `u` is a random number in [0, 1)."""
        version = self._version(cluster)
        if version is None:
            return ADMITTED
        micros = int(now * MICROS_PER_SECOND)
        if micros >= version.evaluate_at:
            version.evaluate_at = micros + EVALUATE
            self._evaluate(micros, version)
        if version.state is BreakerState.CLOSED:
            return ADMITTED
        if version.state is BreakerState.REDUCED:
            if u < version.config.admit:
                return BreakerVerdict(admitted=True, state=BreakerState.REDUCED)
        elif self._probe(micros, version):
            return BreakerVerdict(admitted=True, state=BreakerState.OPEN, probe=True)
        retry_after = version.config.retry_after
        return BreakerVerdict(admitted=False, state=version.state, retry_after=retry_after)

    @property
    def unprotected(self) -> int:
        """Versions the table had no room for: they are never broken."""
        return sum(version is None for version in self._versions.values())

    def status(self, now: float) -> dict[str, BreakerStatus]:
        """How every version stands."""
        micros = int(now * MICROS_PER_SECOND)
        found = {}
        for cluster in self._configs:
            version = self._version(cluster)
            if version is not None:
                buckets = self._buckets(micros, version, self._evaluate(micros, version))
                volume = sum(well + failed for well, failed in buckets)
                rate = error_rate(buckets, version.config)
                found[cluster] = BreakerStatus(version.state, rate, volume)
        return found

    def _version(self, cluster: str) -> _Version | None:
        try:
            return self._versions[cluster]
        except KeyError:
            config = self._configs.get(cluster)
            if config is None:
                return None
        version = _Version(config, 0, int(config.window * MICROS_PER_SECOND) // config.buckets)
        try:
            # Counts in steps of another length would be misread: they get columns of their own.
            name = f"breaker:{cluster}:{version.width}:{config.buckets}"
            version.block = self._table.column(name, version.columns)
        except TableFullError:
            self._versions[cluster] = None
            return None
        self._versions[cluster] = version
        return version

    def _evaluate(self, now: int, version: _Version) -> int:
        """Judge; gives the number of the first bucket that counts."""
        note = max(self._table.values(version.changed))
        since, open_ = note >> 1, bool(note & 1)
        bucket = since // version.width + 1 if note else 0
        if open_ and recovered(self._buckets(now, version, bucket + 1), version.config):
            self._table.set(version.changed, now << 1)
            open_, bucket = False, now // version.width + 1
        if open_:
            version.state = BreakerState.OPEN
            return 0
        version.state = judge(self._buckets(now, version, bucket), version.config)
        if version.state is BreakerState.OPEN:
            self._table.set(version.changed, now << 1 | 1)
        return bucket

    def _buckets(self, now: int, version: _Version, first: int) -> list[WindowBucket]:
        """The window, newest first, without the buckets numbered below `first`.

        Nothing at all where nothing was recorded: most versions are idle, and the metrics look at
        all of them.
        """
        newest = now // version.width + 1
        oldest = max(newest - version.config.buckets + 1, first)
        if max(self._table.values(version.latest)) < oldest:
            return []
        well, failed = ([0] * (newest - oldest + 1) for _ in range(2))
        for row in range(self._table.rows):
            cells = self._table.block(row, version.block, version.slots * _CELLS)
            for number, successes, failures in zip(
                cells[::_CELLS], cells[1::_CELLS], cells[2::_CELLS], strict=True
            ):
                if oldest <= number <= newest:
                    well[newest - number] += successes
                    failed[newest - number] += failures
        return list(zip(well, failed, strict=True))

    def _probe(self, now: int, version: _Version) -> bool:
        """Whether nobody has let a probe through in this interval yet (two at once may)."""
        interval = now // int(version.config.probe_interval * MICROS_PER_SECOND)
        if max(self._table.values(version.probed)) >= interval:
            return False
        self._table.set(version.probed, interval)
        return True
