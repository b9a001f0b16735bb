"""A worker beats while its event loop runs, and the supervisor reads the count."""

import asyncio
from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.process.heartbeat import Heartbeat, HeartbeatReader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(tmp_path / "counters", rows=3, columns=100)
    return tmp_path / "counters"


def test_only_the_worker_that_beats_is_heard(path: Path) -> None:
    reader = HeartbeatReader(CounterTable(path, 2))
    heartbeat = Heartbeat(CounterTable(path, 1))
    for _ in range(3):
        heartbeat.beat()
    assert [reader.count(worker) for worker in (0, 1)] == [0, 3]


class ThreeBeats(Heartbeat):
    """Tells when it has beaten three times."""

    def __init__(self, table: CounterTable, reader: HeartbeatReader) -> None:
        super().__init__(table)
        self._reader = reader
        self.done = asyncio.Event()

    def beat(self) -> None:
        super().beat()
        if self._reader.count(0) == 3:
            self.done.set()


def test_a_running_loop_beats(path: Path) -> None:
    async def run() -> None:
        heartbeat = ThreeBeats(CounterTable(path, 0), HeartbeatReader(CounterTable(path, 2)))
        heartbeat.start()
        await asyncio.wait_for(heartbeat.done.wait(), 20)
        heartbeat.stop()

    asyncio.run(run())
