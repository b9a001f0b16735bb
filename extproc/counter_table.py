"""Table of counters that all workers of one supervisor share.

A memory-mapped file of fixed size holds a directory of names and a table of unsigned 64-bit
integers, with one row for each worker. A worker writes only to its own row, so additions need no
lock, and no addition is lost. A worker that replaces a killed one continues from the numbers in its
row. Readers aggregate over the rows. The table does not know the meaning of its columns.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAGIC = b"sluicct1"
_HEADER = struct.Struct("=8s4Q")  # magic, rows, columns, directory size, directory bytes in use
_USED = _HEADER.size - 8
_ENTRY = struct.Struct("=3I")  # length of the name, first column, width

MASK = 2**64 - 1

AVERAGE_NAME = 48
"""Bytes of directory for each column. The name of a metric with its labels is longer, but the
columns of a histogram share one name."""


class TableFullError(Exception):
    """The table has no room for another name. Existing columns keep working."""


class RowTakenError(Exception):
    """Another process holds this row."""


def size(rows: int, columns: int) -> int:
    """The size of a table in bytes, if all of it is used."""
    return _data_offset(_directory(columns)) + rows * columns * 8


def create(path: Path, rows: int, columns: int) -> None:
    """Create a table of zeros that only this user can access. It replaces an existing file.

    The file is sparse: unused columns take no memory.
    """
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size(rows, columns))
        os.pwrite(descriptor, _HEADER.pack(MAGIC, rows, columns, _directory(columns), 0), 0)
    finally:
        os.close(descriptor)
    temporary.replace(path)


class CounterTable:
    """Access of one process to a table: it reads all rows and writes to `row`, if given.

    Raises RowTakenError while another process holds the row, and ValueError if the file is not a
    table or does not have the row.
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
            raise ValueError(f"{path} is not a counter table")
        self.rows: int = rows
        self.columns: int = columns
        self.row = row
        self._directory: int = directory
        self._data = memoryview(self._map)[_data_offset(directory) :].cast("Q")
        self._base = 0
        self._row_lock: int | None = None
        if row is not None:
            if not 0 <= row < rows:
                raise ValueError(f"{path} has {rows} rows, but not row {row}")
            self._row_lock = self._claim(row)
            self._base = row * columns

    def close(self) -> None:
        """Release the row and the file. The numbers stay in the table."""
        self._data.release()
        self._map.close()
        if self._row_lock is not None:
            os.close(self._row_lock)
            self._row_lock = None

    def column(self, name: str, width: int = 1) -> int:
        """Return the first of the `width` columns of a name. It is the same in every process.

        Adds the name if it is new. Raises TableFullError, and ValueError if the name has another
        width.
        """
        found = self._names.get(name) or self._look_up(name)
        if found is None:
            with self._locked():
                found = self._look_up(name) or self._append(name, width)
        if found[1] != width:
            raise ValueError(f"{name} has {found[1]} columns, not {width}")
        return found[0]

    def names(self) -> dict[str, tuple[int, int]]:
        """Return the first column and the width of each name that any process has added."""
        self._look_up("")
        return dict(self._names)

    def add(self, column: int, amount: int = 1) -> None:
        """Add to a column of this process's row. The sum wraps around at 2^64."""
        index = self._base + column
        self._data[index] = (self._data[index] + amount) & MASK

    def set(self, column: int, value: int) -> None:
        """Set a column of this process's row."""
        self._data[self._base + column] = value

    def get(self, column: int) -> int:
        """Return a column of this process's row."""
        return self._data[self._base + column]

    def total(self, column: int) -> int:
        """Return the sum of a column over all rows, modulo 2^64."""
        return sum(self._data[column :: self.columns]) & MASK

    def values(self, column: int) -> list[int]:
        """Return the values of a column, one for each row."""
        return list(self._data[column :: self.columns])

    def block(self, row: int, column: int, width: int) -> list[int]:
        """Return `width` consecutive columns of one row."""
        start = row * self.columns + column
        return self._data[start : start + width].tolist()

    def _claim(self, row: int) -> int:
        # flock, because a POSIX record lock ends when the process closes any descriptor of the
        # file. The lock file belongs to this row only.
        lock = os.open(f"{self._path}.row{row}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RowTakenError(f"another process holds row {row} of {self._path}") from None
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
        """Read the names that were added since the last call, then look up `name`."""
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
        # Other processes see the entry from here on, when it is complete.
        struct.pack_into("=Q", self._map, _USED, self._read + size)
        found = self._look_up(name)
        assert found is not None
        return found


def _directory(columns: int) -> int:
    """The bytes of the directory of a table."""
    return columns * (AVERAGE_NAME + _ENTRY.size)


def _data_offset(directory: int) -> int:
    page = mmap.PAGESIZE
    return -(-(_HEADER.size + directory) // page) * page
