"""The files of a spool: an append-only log of events and confirmations, in segments.

A segment whose events are all confirmed is removed. The data are not flushed to the disk: they
survive the end of the process, but perhaps not that of the machine.
"""

import fcntl
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from video.sinks.spool_records import (
    confirmation_record,
    event_record,
    read_records,
)
from video.sinks.transport import StoredEvent

log = logging.getLogger(__name__)

_SUFFIX: Final = ".spool"
_MIN_SEGMENT: Final = 64 << 10
_MAX_SEGMENT: Final = 4 << 20
"""Bytes from which a segment is full."""


_Position = tuple[Path | None, int]
"""A segment, and an offset in it. None: the first segment."""


@dataclass(slots=True)
class _Segment:
    path: Path
    last: int
    """Number of its last event; that of an earlier one if it has none."""
    size: int


class SpoolLog:
    """The log in one folder, which only one process may use. All methods may raise OSError."""

    def __init__(self, folder: Path, max_size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._segment_size = max(_MIN_SEGMENT, min(_MAX_SEGMENT, max_size // 8))
        self._confirmed = self._last = 0
        self._segments: list[_Segment] = []
        self._writer: int | None = None
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except OSError as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise OSError(error.errno, f"another process uses {folder}") from None
            raise
        # Where the oldest event that waits may begin, and the same after the batch that was read.
        self._position: _Position = (None, 0)
        self._batch_end: _Position = (None, 0)
        self._batch_last = 0

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    @property
    def waiting(self) -> int:
        """Number of events that are not confirmed."""
        return self._last - self._confirmed

    def append(self, events: Sequence[StoredEvent]) -> None:
        """Append events, all or nothing."""
        if self._writer is None or self._segments[-1].size >= self._segment_size:
            self._begin_segment()
        numbered = enumerate(events, self._last + 1)
        self._write(b"".join([event_record(number, event) for number, event in numbered]))
        self._last += len(events)
        self._segments[-1].last = self._last

    def oldest(self, max_events: int, max_bytes: int) -> list[StoredEvent]:
        """The oldest events, of which at least one."""
        batch: list[StoredEvent] = []
        size = 0
        for segment in self._unread():
            path, offset = self._position
            start = offset if path == segment.path else 0
            with segment.path.open("rb") as file:
                for record in read_records(file, start):
                    if record.event is None or record.number <= self._confirmed:
                        continue
                    size += len(record.event.data)
                    if len(batch) == max_events or (batch and size > max_bytes):
                        return batch
                    batch.append(record.event)
                    self._batch_end, self._batch_last = (segment.path, record.end), record.number
        return batch

    def confirm(self, count: int) -> None:
        """The sink has so many of the oldest events, the last result of `oldest`."""
        # Where a file was damaged, numbers are missing.
        self._confirmed = max(self._confirmed + count, self._batch_last)
        self._position = self._batch_end
        empty = self._confirmed == self._last
        if self._writer is None or (empty and self._segments[-1].size >= _MIN_SEGMENT):
            # The new segment begins with the confirmation.
            self._begin_segment()
        else:
            self._write(confirmation_record(self._confirmed))
        self._remove_confirmed()

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None
        os.close(self._lock)

    def _unread(self) -> list[_Segment]:
        """The segments from the position on."""
        for i, segment in enumerate(self._segments):
            if segment.path == self._position[0]:
                return self._segments[i:]
        return self._segments

    def _read(self) -> None:
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            self._segments.append(self._read_segment(path))
        self._last = max(self._last, self._confirmed)
        self._remove_confirmed(keep=0)

    def _read_segment(self, path: Path) -> _Segment:
        end = 0
        with path.open("rb") as file:
            for record in read_records(file, 0):
                end = record.end
                if record.event is None:
                    self._confirmed = max(self._confirmed, record.number)
                else:
                    self._last = max(self._last, record.number)
        if (lost := path.stat().st_size - end) > 0:
            log.warning("%s: the last %d bytes are not whole, and are dropped", path, lost)
            os.truncate(path, end)
        return _Segment(path, self._last, end)

    def _begin_segment(self) -> None:
        """Write to a new segment, which begins with the confirmation."""
        path = self._folder / f"{self._last + 1:020}{_SUFFIX}"
        writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._writer is not None:
            os.close(self._writer)
        self._writer = writer
        # A segment that has no events yet has the same name.
        if not self._segments or self._segments[-1].path != path:
            self._segments.append(_Segment(path, self._last, 0))
        self._write(confirmation_record(self._confirmed))

    def _write(self, data: bytes) -> None:
        assert self._writer is not None
        segment = self._segments[-1]
        try:
            written = 0
            while written < len(data):
                written += os.write(self._writer, memoryview(data)[written:])
        except OSError:
            # Such as a full disk, after a part of the data.
            os.ftruncate(self._writer, segment.size)
            raise
        segment.size += len(data)

    def _remove_confirmed(self, keep: int = 1) -> None:
        """Remove segments without events that wait, but not the newest `keep`."""
        while len(self._segments) > keep and self._segments[0].last <= self._confirmed:
            with suppress(FileNotFoundError):
                self._segments[0].path.unlink()
            del self._segments[0]
