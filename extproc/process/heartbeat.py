"""Heartbeats: a worker counts in the shared table while its event loop runs.

The supervisor watches the counts. A worker whose count does not change is silent: its event loop is
blocked, or its process is stopped.
"""

import asyncio

from extproc.counter_table import CounterTable
from sluice.supervision.silence import BEAT_INTERVAL

_NAME = "heartbeats"


class Heartbeat:
    """The heartbeat of one worker, in its row of the table."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._column = table.column(_NAME)
        self._timer: asyncio.TimerHandle | None = None

    def beat(self) -> None:
        """Count once. Long work on the event loop may call this between its steps."""
        self._table.add(self._column)

    def start(self) -> None:
        """Beat periodically on the running event loop."""
        self.beat()
        self._timer = asyncio.get_running_loop().call_later(BEAT_INTERVAL, self.start)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()


class HeartbeatReader:
    """Reads the counts of all workers. Creates the column, so that it exists in a full table."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._column = table.column(_NAME)

    def count(self, worker: int) -> int:
        """Return a worker's count, which grows as long as its event loop runs."""
        return self._table.block(worker, self._column, 1)[0]
