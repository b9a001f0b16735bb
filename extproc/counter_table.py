"""Counters that all workers of one supervisor share: one writer per row, readers sum.

A memory-mapped file of fixed size holds a directory of names and a table of unsigned 64-bit
integers, one row for each worker. A worker writes to its own row only, so no addition needs a lock
and none is lost; a worker that takes over the row of one that died goes on from its numbers. What a
column means, and how sums become metrics or an error rate, is the business of others.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAGIC = b"sluicct1"
_HEADER = struct.Struct("=8s4Q")  # magic, rows, columns, directory bytes, directory bytes in use
_USED = _HEADER.size - 8
_ENTRY = struct.Struct("=3I")  # length of the name, first column, width

MASK = 2**64 - 1

AVERAGE_NAME = 48
"""Bytes of directory for each column: a metric with its labels is longer, a histogram shares one
name between all its columns."""


class TableFullError(Exception):
    """There is no room for another name; what is in the table goes on working."""


class RowTakenError(Exception):
    """Another process writes to this row."""


def create(path: Path, rows: int, columns: int) -> None:
    """Make a table of zeros, for this user alone, in place of any that was there.

    The file is sparse: columns not in use cost no memory.
    """
    directory = columns * (AVERAGE_NAME + _ENTRY.size)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, _data_offset(directory) + rows * columns * 8)
        os.pwrite(descriptor, _HEADER.pack(MAGIC, rows, columns, directory, 0), 0)
    finally:
        os.close(descriptor)
    fresh.replace(path)


class CounterTable:
    """A table as one process sees it: every row to read, and `row`, if named, to write.

    Raises RowTakenError while another process holds the row, ValueError for a file that is no
    table or a row that it does not have.
    """

    def __init__(self, path: Path, row: int | None = None) -> None:
        self._path = path
        self._names: dict[str, tuple[int, int]] = {}
        self._read = 0
        self._next = 0
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        magic, rows, columns, directory, _ = _HEADER.unpack_from(self._map)
        if magic != MAGIC:
            raise ValueError(f"{path} is not a table of counters")
        self.rows: int = rows
        self.columns: int = columns
        self._directory: int = directory
        self._data = memoryview(self._map)[_data_offset(directory) :].cast("Q")
        self._base = 0
        self._row_lock: int | None = None
        if row is not None:
            if not 0 <= row < rows:
                raise ValueError(f"{path} has {rows} rows, and no row {row}")
            self._row_lock = self._claim(row)
            self._base = row * columns

    def close(self) -> None:
        """Let go of the row and of the file; the numbers stay."""
        self._data.release()
        self._map.close()
        if self._row_lock is not None:
            os.close(self._row_lock)
            self._row_lock = None

    def column(self, name: str, width: int = 1) -> int:
        """The first of `width` columns that belong to a name, in every process alike.

        Raises TableFullError, and ValueError where the name already has another width.
        """
        found = self._names.get(name) or self._look_up(name)
        if found is None:
            with self._locked():
                found = self._look_up(name) or self._append(name, width)
        if found[1] != width:
            raise ValueError(f"{name} has {found[1]} columns, not {width}")
        return found[0]

    def names(self) -> dict[str, tuple[int, int]]:
        """First column and width by name, of all that any process has named."""
        self._look_up("")
        return dict(self._names)

    def add(self, column: int, amount: int = 1) -> None:
        """Add to this process's row; wraps around at 2^64."""
        index = self._base + column
        self._data[index] = (self._data[index] + amount) & MASK

    def set(self, column: int, value: int) -> None:
        """Overwrite a number in this process's row."""
        self._data[self._base + column] = value

    def own(self, column: int) -> int:
        """The number in this process's row."""
        return self._data[self._base + column]

    def total(self, column: int) -> int:
        """The sum over all rows."""
        return sum(self._data[column :: self.columns]) & MASK

    def values(self, column: int) -> list[int]:
        """The number in every row."""
        return list(self._data[column :: self.columns])

    def block(self, row: int, column: int, width: int) -> list[int]:
        """Consecutive numbers of one row."""
        start = row * self.columns + column
        return self._data[start : start + width].tolist()

    def _claim(self, row: int) -> int:
        # A file of its own: a lock by process would end when the process closes any descriptor.
        lock = os.open(f"{self._path}.row{row}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RowTakenError(f"row {row} of {self._path} has a writer") from None
        return lock

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _look_up(self, name: str) -> tuple[int, int] | None:
        """Read what was appended to the directory since the last time."""
        (used,) = struct.unpack_from("=Q", self._map, _USED)
        while self._read < used:
            at = _HEADER.size + self._read
            length, column, width = _ENTRY.unpack_from(self._map, at)
            at += _ENTRY.size
            self._names[self._map[at : at + length].decode()] = (column, width)
            self._read += _ENTRY.size + length
            self._next = column + width
        return self._names.get(name)

    def _append(self, name: str, width: int) -> tuple[int, int]:
        encoded = name.encode()
        size = _ENTRY.size + len(encoded)
        if self._read + size > self._directory or self._next + width > self.columns:
            raise TableFullError(f"{self._path} has no room for {name}")
        at = _HEADER.size + self._read
        entry = _ENTRY.pack(len(encoded), self._next, width)
        self._map[at : at + size] = entry + encoded
        # Only now can others see it: the entry is whole.
        struct.pack_into("=Q", self._map, _USED, self._read + size)
        found = self._look_up(name)
        assert found is not None
        return found


def _data_offset(directory: int) -> int:
    page = mmap.PAGESIZE
    return -(-(_HEADER.size + directory) // page) * page
