"""Where log lines go: rotated files, one for each worker, or pipes and streams that they share.

Writing may block for as long as it likes, so this belongs on a thread of its own (see `writer`).
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
    """Takes whole lines."""

    def write(self, lines: bytes) -> None:
        """Write all of them. Raises OSError."""

    def close(self) -> None:
        """Let go of the file."""


def open_output(name: str, worker: int, rotation: Rotation, clock: Callable[[], float]) -> Output:
    """The output that a config names, for one worker. Waits for a reader where it is a pipe.

    `clock` gives seconds since the epoch. Raises OSError.
    """
    if name in STREAMS:
        return StreamOutput(os.dup(STREAMS[name]))
    path = Path(name)
    if path.exists() and not path.is_file():
        return StreamOutput(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
    return RotatedFile(path.with_stem(f"{path.stem}-{worker}"), rotation, clock)


class StreamOutput:
    """A descriptor that other processes may write to as well: lines never mix with theirs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, lines: bytes) -> None:
        """Write in pieces that the kernel keeps whole."""
        for piece in _pieces(lines):
            _write_all(self._descriptor, piece)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class RotatedFile:
    """A file that becomes FILE.1 when it is full or old, and FILE.2 the time after.

    Old means that a multiple of `max_age` since the epoch has passed, which is midnight UTC where
    it is a day, so that restarts change nothing. A file that was moved away is made anew.
    """

    def __init__(self, path: Path, rotation: Rotation, clock: Callable[[], float]) -> None:
        self._path = path
        self._rotation = rotation
        self._clock = clock
        self._open()

    def write(self, lines: bytes) -> None:
        """Append, after rotating where it is time."""
        if self._moved():
            os.close(self._descriptor)
            self._open()
        elif self._size and self._is_due(len(lines)):
            self._rotate()
        _write_all(self._descriptor, lines)
        self._size += len(lines)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, MODE)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self._size = status.st_size
        self._period = self._period_of(status.st_mtime if self._size else self._clock())

    def _moved(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def _period_of(self, moment: float) -> int:
        return int(moment / self._rotation.max_age) if self._rotation.max_age else 0

    def _is_due(self, more: int) -> bool:
        full = self._size + more > self._rotation.max_size
        return full or self._period_of(self._clock()) != self._period

    def _rotate(self) -> None:
        os.close(self._descriptor)
        names = [self._path, *(Path(f"{self._path}.{n + 1}") for n in range(self._rotation.keep))]
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            with contextlib.suppress(FileNotFoundError):
                newer.rename(older)
        self._open()


def _pieces(lines: bytes) -> Iterator[bytes]:
    """Whole lines of at most PIPE_BUF bytes together, which a pipe takes in one piece (POSIX)."""
    at = 0
    while len(lines) - at > select.PIPE_BUF:
        end = lines.rfind(b"\n", at, at + select.PIPE_BUF) + 1
        if end <= at:  # one line that is longer
            end = lines.index(b"\n", at) + 1
        yield lines[at:end]
        at = end
    yield lines[at:]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
