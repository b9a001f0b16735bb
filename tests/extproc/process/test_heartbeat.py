"""A worker beats while its event loop runs. The supervisor measures how long it is silent."""

import asyncio
from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.process.heartbeat import CHECK_INTERVAL, MAX_STEP, Heartbeat, HeartbeatReader, Silence

STARTED_AT = 100.0


def looked(silence: Silence, counts: list[int]) -> Silence:
    """Look once for each count, at the usual interval."""
    for number, count in enumerate(counts, 1):
        silence.look(STARTED_AT + number * CHECK_INTERVAL, count)
    return silence


def test_a_count_that_grows_ends_the_silence() -> None:
    assert looked(Silence(STARTED_AT, 7), [7, 7, 7]).seconds == 3 * CHECK_INTERVAL
    assert looked(Silence(STARTED_AT, 7), [7, 7, 8]).seconds == 0
    assert looked(Silence(STARTED_AT, 7), [7, 7, 8, 8]).seconds == CHECK_INTERVAL


def test_the_count_of_the_predecessor_is_no_heartbeat() -> None:
    assert not looked(Silence(STARTED_AT, 7), [7, 7]).has_beaten
    assert looked(Silence(STARTED_AT, 7), [7, 8, 8]).has_beaten


def test_a_time_without_looks_hardly_counts() -> None:
    """The machine was suspended for an hour: the workers did not run either."""
    silence = looked(Silence(STARTED_AT, 7), [8, 8])
    silence.look(STARTED_AT + 3600, 8)
    assert silence.seconds == CHECK_INTERVAL + MAX_STEP
    silence.look(STARTED_AT + 3600 + CHECK_INTERVAL, 9)
    assert silence.seconds == 0


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
