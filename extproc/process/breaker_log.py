"""Logs when the breaker of a version opens or closes: one line for all workers.

The supervisor reads the states that the workers publish, because each worker sees each change.
"""

import logging
from itertools import islice

from extproc.breaker import BreakerState
from extproc.counter_table import CounterTable
from extproc.telemetry import catalog
from extproc.telemetry.metrics import Gauge, parse_series_name
from sluice.state_changes import StateChange, StateChanges

log = logging.getLogger(__name__)

LOOK_INTERVAL = 0.5
"""Seconds between two looks. The workers publish their states as often."""

MIN_LOG_INTERVAL = 5.0
"""Minimum seconds between two lines about one version."""

_GAUGES = (catalog.BREAKER_STATE, catalog.BREAKER_ERROR_RATIO, catalog.BREAKER_REQUESTS)


class BreakerLog:
    """Looks periodically at the states of all breakers. `deadline` is the time of the next look."""

    def __init__(self, table: CounterTable, now: float) -> None:
        self._table = table
        self._columns: dict[str, dict[tuple[str, ...], int]] = {each.name: {} for each in _GAUGES}
        self._names_read = 0
        self._changes = StateChanges(BreakerState.CLOSED, grace=0.0, interval=MIN_LOG_INTERVAL)
        self.deadline: float | None = now

    def on_deadline(self, now: float) -> None:
        """Log the changes since the last look, and schedule the next look."""
        self.deadline = now + LOOK_INTERVAL
        self._find_columns()
        for version in self._columns[catalog.BREAKER_STATE.name]:
            state = self._read(catalog.BREAKER_STATE, version)
            # The gauge is absent if the version or its breaker was removed: nothing opens any more.
            current = BreakerState.CLOSED if state is None else BreakerState(int(state))
            change = self._changes.observe(now, version, current)
            if change is not None:
                self._log(version, change)

    def _find_columns(self) -> None:
        """Read the names that were added to the table since the last look."""
        names = self._table.names()
        for name, (column, _) in islice(names.items(), self._names_read, None):
            series = parse_series_name(name)
            if series is not None and series[0] in self._columns:
                self._columns[series[0]][series[1]] = column
        self._names_read = len(names)

    def _read(self, gauge: Gauge, version: tuple[str, ...]) -> float | None:
        column = self._columns[gauge.name].get(version)
        return None if column is None else gauge.aggregate(self._table.values(column))

    def _log(self, version: tuple[str, ...], change: StateChange[BreakerState]) -> None:
        level = logging.INFO if change.new is BreakerState.CLOSED else logging.WARNING
        log.log(
            level,
            "breaker of %s: %s -> %s after %.1f s%s%s",
            "/".join(version),
            "unknown" if change.old is None else change.old.name.lower(),
            change.new.name.lower(),
            change.after,
            self._counts(version),
            _EFFECTS[change.new],
        )

    def _counts(self, version: tuple[str, ...]) -> str:
        ratio = self._read(catalog.BREAKER_ERROR_RATIO, version)
        requests = self._read(catalog.BREAKER_REQUESTS, version) or 0
        failed = "" if ratio is None else f", of which {ratio:.0%} of the latest failed"
        return f"; {requests:.0f} requests in its window{failed}"


_EFFECTS = {
    BreakerState.CLOSED: "; all requests are admitted",
    BreakerState.REDUCED: "; a share of the requests is admitted",
    BreakerState.OPEN: "; only probes are admitted",
}
