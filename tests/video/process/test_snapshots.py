"""A worker beats while its event loop runs and no source hangs."""

import asyncio
from pathlib import Path

import pytest

from protos.video_pb2 import WorkerSnapshot
from sluice.supervision.silence import BEAT_INTERVAL
from tests.video.streams_kit import until
from video.process.snapshots import SnapshotReader, SnapshotWriter

pytestmark = pytest.mark.anyio


async def test_a_running_loop_beats_and_writes_snapshots(tmp_path: Path) -> None:
    reader, numbers = SnapshotReader(tmp_path / "snapshot"), iter(range(1, 100))
    assert reader.heartbeats() == 0
    writer = SnapshotWriter(tmp_path / "snapshot", lambda: WorkerSnapshot(pid=next(numbers)))
    writer.start()
    try:
        beats = {reader.heartbeats()}
        assert reader.read().pid == 1

        def beaten() -> bool:
            beats.add(reader.heartbeats())
            return reader.read().pid == 2

        await until(beaten)
    finally:
        writer.stop()
    assert len(beats) >= 4
    assert reader.read().pid == 3


async def test_a_worker_whose_source_hangs_is_silent_until_it_ends(tmp_path: Path) -> None:
    reader, hangs = SnapshotReader(tmp_path / "snapshot"), True
    writer = SnapshotWriter(tmp_path / "snapshot", WorkerSnapshot, lambda: hangs)
    writer.start()
    try:
        await asyncio.sleep(2 * BEAT_INTERVAL)
        assert reader.heartbeats() == 0
        hangs = False
        await until(lambda: reader.heartbeats() > 0)
    finally:
        writer.stop()
