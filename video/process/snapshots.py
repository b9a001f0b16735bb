"""A worker writes snapshots for its supervisor, and beats while its event loop runs.

A file is simple and safe: a worker that stops or ends in the middle of a write leaves the last
snapshot, and the supervisor never waits for a worker.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from protos.video_pb2 import WorkerSnapshot
from sluice.supervision.silence import BEAT_INTERVAL

SNAPSHOT_INTERVAL: Final = 1.0
"""Seconds between two snapshots."""

MAX_SNAPSHOT: Final = 16 << 20
"""Bytes of a snapshot that are read: those of a thousand streams are less than a tenth of it."""


class SnapshotWriter:
    """Writes the snapshots of one worker. `take` returns the present one.

    While `hangs` is true, the worker is silent, although its event loop runs.
    """

    def __init__(
        self,
        path: Path,
        take: Callable[[], WorkerSnapshot],
        hangs: Callable[[], bool] = lambda: False,
    ) -> None:
        self._path = path
        self._take = take
        self._hangs = hangs
        self._timer: asyncio.TimerHandle | None = None
        self._beats = 0

    def start(self) -> None:
        """Beat periodically on the running event loop, and write snapshots."""
        self._timer = asyncio.get_running_loop().call_later(BEAT_INTERVAL, self.start)
        if self._hangs():
            return
        if self._beats % round(SNAPSHOT_INTERVAL / BEAT_INTERVAL) == 0:
            self.write()
        else:
            os.utime(self._path)
        self._beats += 1

    def write(self) -> None:
        """Write a snapshot now."""
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(self._take().SerializeToString())
        temporary.replace(self._path)

    def stop(self) -> None:
        """Write the last snapshot."""
        if self._timer is not None:
            self._timer.cancel()
        self.write()


class SnapshotReader:
    """Reads the snapshots of one worker."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def heartbeats(self) -> int:
        """A number that changes with each heartbeat."""
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def read(self) -> WorkerSnapshot:
        """The latest snapshot; an empty one if there is none."""
        try:
            with self._path.open("rb") as file:
                return WorkerSnapshot.FromString(file.read(MAX_SNAPSHOT))
        except (FileNotFoundError, DecodeError):
            return WorkerSnapshot()

    def remove(self) -> None:
        """Remove the snapshot of a process that has ended."""
        self._path.unlink(missing_ok=True)
