"""Outputs of the access log: one rotated file for each worker, or a shared pipe or stream.

A write may block, so outputs are used only on the thread of a `LogWriter`.
"""

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from sluice.config.telemetry import Rotation

STREAMS = {"stdout": 1, "stderr": 2}

MODE = 0o640


class Output(Protocol):
    """Writes whole lines."""

    def write(self, lines: bytes) -> None:
        """Write all lines. Raises OSError."""

    def close(self) -> None:
        """Close the file."""


def open_output(name: str, worker: int, rotation: Rotation, clock: Callable[[], float]) -> Output:
    """Open the output that the config names, for one worker.

    Opening a named pipe blocks until it has a reader. `clock` returns seconds since the epoch.
    Raises OSError.
    """
    if name in STREAMS:
        return StreamOutput(os.dup(STREAMS[name]))
    path = Path(name)
    if path.exists() and not path.is_file():
        return StreamOutput(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
    return RotatedFile(path.with_stem(f"{path.stem}-{worker}"), rotation, clock)


class StreamOutput:
    """A descriptor that other processes may write to at the same time.

    Lines of at most PIPE_BUF bytes never mix.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, lines: bytes) -> None:
        """Write in pieces that the kernel writes atomically."""
        for piece in _atomic_pieces(lines):
            _write_all(self._descriptor, piece)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


class RotatedFile:
    """A file that is rotated by size and by age: FILE becomes FILE.1, FILE.1 becomes FILE.2.

    Rotation by age happens at multiples of `max_age` since the epoch (midnight UTC for one day), so
    restarts do not delay it. If another process moves the file away, it is created again.
    """

    def __init__(self, path: Path, rotation: Rotation, clock: Callable[[], float]) -> None:
        self._path = path
        self._rotation = rotation
        self._clock = clock
        self._descriptor: int | None = self._open()

    def write(self, lines: bytes) -> None:
        """Append lines, after rotating the file if that is due."""
        if self._descriptor is None or self._moved():
            self.close()
            self._descriptor = self._open()
        elif self._size and self._is_due(len(lines)):
            self.close()
            self._rename_files()
            self._descriptor = self._open()
        _write_all(self._descriptor, lines)
        self._size += len(lines)

    def close(self) -> None:
        """Close the file. A file that could not be opened again is already closed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, MODE)
        status = os.fstat(descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self._size = status.st_size
        self._period = self._period_of(status.st_mtime if self._size else self._clock())
        return descriptor

    def _moved(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def _period_of(self, timestamp: float) -> int:
        return int(timestamp / self._rotation.max_age) if self._rotation.max_age else 0

    def _is_due(self, added: int) -> bool:
        full = self._size + added > self._rotation.max_size
        return full or self._period_of(self._clock()) != self._period

    def _rename_files(self) -> None:
        names = [self._path, *(Path(f"{self._path}.{n + 1}") for n in range(self._rotation.keep))]
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            with contextlib.suppress(FileNotFoundError):
                newer.rename(older)


def _atomic_pieces(lines: bytes) -> Iterator[bytes]:
    """Split lines into pieces of at most PIPE_BUF bytes, which POSIX writes to a pipe atomically.

    A line that is longer than PIPE_BUF becomes a piece of its own.
    """
    start = 0
    while len(lines) - start > select.PIPE_BUF:
        end = lines.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if end <= start:
            end = lines.index(b"\n", start) + 1
        yield lines[start:end]
        start = end
    yield lines[start:]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
