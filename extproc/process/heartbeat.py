"""Heartbeats: a worker counts in the shared table while its event loop runs.

The supervisor watches the counts. A worker whose count does not change is silent: its event loop is
blocked, or its process is stopped.
"""

import asyncio
from dataclasses import dataclass, field

from extproc.counter_table import CounterTable

BEAT_INTERVAL = 0.25
"""Seconds between two heartbeats of a worker."""

CHECK_INTERVAL = 0.25
"""Seconds between two looks of the supervisor at a worker's heartbeats."""

MAX_STEP = 2 * CHECK_INTERVAL
"""Maximum seconds of silence that one look adds. The supervisor looks late if the whole machine was
paused or overloaded. The workers did not run at that time either, and must not be killed for it."""

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


@dataclass(slots=True)
class Silence:
    """Measures how long a process has been silent. Pure: times and counts are passed in.

    `started_at` is the time of the process's start, `count` the count that its predecessor left.
    """

    started_at: float
    count: int
    seconds: float = field(default=0.0, init=False)
    """Silence at the latest look, without times at which the supervisor did not look."""
    has_beaten: bool = field(default=False, init=False)
    _looked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked_at = self.started_at

    def look(self, now: float, count: int) -> None:
        """Take note of the count at this time."""
        step = min(now - self._looked_at, MAX_STEP)
        self._looked_at = now
        if count == self.count:
            self.seconds += step
        else:
            self.count, self.has_beaten, self.seconds = count, True, 0.0
