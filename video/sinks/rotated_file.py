"""A file to which batches of events are appended, and which is renamed when it is full."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
"""Without O_NONBLOCK, a pipe that nobody reads would block its opener."""
_MODE: Final = 0o640

WholeSize = Callable[[Path, int], int]
"""The size of the whole events in a file of a size."""


class RotatedFile:
    """Appends data to a file. All methods block, and raise OSError. Any thread may call them.

    `path.1` is the newest of the full files, `path.KEEP` the oldest.
    """

    def __init__(self, path: Path, max_size: int, keep: int, whole_size: WholeSize) -> None:
        self._path, self._max_size, self._keep = path, max_size, keep
        self._whole_size = whole_size
        self._lock = threading.Lock()
        self._file: int | None = None
        self._size = 0

    def append(self, data: bytes) -> None:
        """Append the data, all or nothing."""
        with self._lock:
            self._append(data)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _append(self, data: bytes) -> None:
        self._open()
        if self._size and self._size + len(data) > self._max_size:
            self._close()
            self._rename()
            self._open()
        assert self._file is not None
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, memoryview(data)[written:])
        except OSError:
            # Such as a full disk, after a part of the data.
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        if self._file is not None and self._is_current(self._file):
            return
        self._close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = file = os.open(self._path, _FLAGS, _MODE)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            self._close()
            raise OSError(errno.EINVAL, "not a regular file")
        self._size = status.st_size
        whole = self._whole_size(self._path, self._size)
        if whole < self._size:
            # A process was killed while it wrote. The rest of the event comes no more.
            os.ftruncate(file, whole)
            self._size = whole

    def _is_current(self, file: int) -> bool:
        """Whether the path still names the open file: another program may have moved it."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _rename(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            if self._numbered(number).exists():
                self._numbered(number).replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
