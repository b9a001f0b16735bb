"""A store in an SQLite file, for one control plane, or in memory.

SQLite runs in a thread of its own. An append is durable when it returns, also after a power loss:
the write-ahead log is synced at each commit. Triggers refuse changes of revisions.
"""

import asyncio
import errno
import logging
import os
import sqlite3
import stat
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from xds.sources.store.availability import Availability
from xds.sources.store.changes import Notifications, follow
from xds.sources.store.store import (
    MAX_HISTORY,
    ConflictError,
    Draft,
    Record,
    RecordConflictError,
    Revision,
    RevisionInfo,
    StoreUnavailableError,
    check_record,
)
from xds.sources.store.text import compressed, decompressed

log = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION_ID: Final = 0x536C7563
"""Marks a file as a store (`PRAGMA application_id`): "Sluc"."""

SCHEMA_VERSION: Final = 2
"""The version of the schema (`PRAGMA user_version`). Files with an earlier one are migrated."""

BUSY_TIMEOUT: Final = 5.0
"""Seconds that a write waits for another process that writes."""

POLL_INTERVAL: Final = 1.0
"""Seconds between two looks at the file for revisions of other processes."""

MAX_IN_MEMORY: Final = 500
"""Revisions that a store in memory keeps. They take memory, and end with the process."""

_REFUSE: Final = "BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END"

_NOT_NEXT: Final = "NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM revisions)"

_SCHEMA: Final = (
    # The text is compressed (zlib).
    "CREATE TABLE revisions (number INTEGER PRIMARY KEY, version TEXT NOT NULL, "
    "author TEXT NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL, origin TEXT NOT NULL, "
    "text BLOB NOT NULL) STRICT",
    "CREATE TABLE records (key TEXT PRIMARY KEY, number INTEGER NOT NULL, value BLOB NOT NULL) "
    "STRICT, WITHOUT ROWID",
    f"CREATE TRIGGER revisions_stay BEFORE UPDATE ON revisions {_REFUSE}",
    # `INSERT OR REPLACE` would delete a revision without its trigger.
    f"CREATE TRIGGER revisions_in_order BEFORE INSERT ON revisions WHEN {_NOT_NEXT} {_REFUSE}",
    f"PRAGMA application_id = {APPLICATION_ID}",
    "PRAGMA user_version = 1",
)
_NO_DELETE: Final = f"CREATE TRIGGER revisions_are_kept BEFORE DELETE ON revisions {_REFUSE}"
"""Only in a file: a store in memory deletes its oldest revisions."""

_MIGRATIONS: Final = {1: ("ALTER TABLE revisions ADD COLUMN nodes REAL", "PRAGMA user_version = 2")}
"""Statements that change a schema of a version to the next one."""

_INFO: Final = "SELECT number, version, author, at, reason, origin, nodes FROM revisions"
_REVISION: Final = "SELECT number, version, author, at, reason, origin, nodes, text FROM revisions"
_INSERT: Final = (
    "INSERT INTO revisions (number, version, author, at, reason, origin, nodes, text) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)

_InfoRow: TypeAlias = tuple[int, str, str, float, str, str, float | None]
_RevisionRow: TypeAlias = tuple[int, str, str, float, str, str, float | None, bytes]


class SqliteStore:
    """A store in the file `path`; None: in memory.

    Raises StoreUnavailableError if the file is not usable.
    """

    def __init__(self, path: Path | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._notifications = Notifications()
        self._availability = Availability(self.name)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        with _errors(self.name):
            self._connection = self._thread.submit(_open, path).result()
            self._file = None if path is None else _identity(path.stat())

    @property
    def name(self) -> str:
        return "memory" if self._path is None else f"sqlite:{self._path}"

    async def head(self) -> Revision | None:
        return await self._run(lambda db: _revision(db, "ORDER BY number DESC LIMIT 1"))

    async def append(self, draft: Draft, *, expected: int | None) -> Revision:
        await asyncio.to_thread(self._check_file)
        content = await asyncio.to_thread(compressed, draft.text)
        keep = MAX_IN_MEMORY if self._path is None else None
        revision = await self._run(
            lambda db: _append(db, draft, content, expected, self._now(), keep)
        )
        self._notifications.notify()
        return revision

    async def revision(self, number: int) -> Revision | None:
        return await self._run(lambda db: _revision(db, "WHERE number = ?", number))

    async def history(self, before: int | None, limit: int) -> list[RevisionInfo]:
        bounded = max(0, min(limit, MAX_HISTORY))
        return await self._run(lambda db: _history(db, before, bounded))

    def changes(self, after: int | None = None) -> AsyncGenerator[Revision]:
        return follow(self._from, self.head, self._notifications, after, POLL_INTERVAL)

    async def record(self, key: str) -> Record | None:
        return await self._run(lambda db: _record(db, key))

    async def put_record(self, key: str, value: bytes, *, expected: int | None) -> Record:
        check_record(key, value)
        return await self._run(lambda db: _put_record(db, key, value, expected))

    async def records(self, prefix: str) -> list[Record]:
        return await self._run(lambda db: _records(db, prefix))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    def _check_file(self) -> None:
        """Raises StoreUnavailableError if the file was removed: SQLite would write into nothing."""
        if self._path is None:
            return
        with suppress(OSError):
            if _identity(self._path.stat()) == self._file:
                return
        raise StoreUnavailableError(
            f"the file of the store {self.name} was removed or replaced; start the control plane "
            "again"
        )

    async def _from(self, number: int) -> Revision | None:
        return await self._run(
            lambda db: _revision(db, "WHERE number >= ? ORDER BY number LIMIT 1", number)
        )

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run in the thread of SQLite. A cancelled caller does not interrupt a transaction."""
        loop = asyncio.get_running_loop()
        try:
            with _errors(self.name):
                done = await loop.run_in_executor(self._thread, work, self._connection)
        except StoreUnavailableError as error:
            self._availability.failed(str(error))
            raise
        self._availability.succeeded()
        return done


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Turns exceptions of SQLite into StoreUnavailableError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            remedy = "another process writes to it: wait for that process, or end it"
        else:
            remedy = "check the disk and the rights of its folder"
        raise StoreUnavailableError(
            f"the store {name} cannot be used: {error}; {remedy}"
        ) from error
    except (sqlite3.Error, zlib.error) as error:
        raise StoreUnavailableError(
            f"the store {name} is damaged or is not a store: {error}; restore its file from a copy,"
            " or name a file that does not exist, with the CONFIG to begin with"
        ) from error
    except OSError as error:
        raise StoreUnavailableError(
            f"the store {name} cannot be opened: {error.strerror}; name a file in a folder that "
            "exists and that this user may write"
        ) from error


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        _create(path)
        _check_owner(path)
        _make_private(path)
    connection = sqlite3.connect(
        ":memory:" if path is None else path, timeout=BUSY_TIMEOUT, isolation_level=None
    )
    try:
        _prepare(connection, in_memory=path is None)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """Create the file if there is none. Raises OSError, also for what is no regular file."""
    # Without waiting for the other end of a pipe.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        _sync_folder(path.parent)
    finally:
        os.close(descriptor)


def _check_owner(path: Path) -> None:
    """Raises DatabaseError for a file of another program, which must stay as it is."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, timeout=BUSY_TIMEOUT, isolation_level=None, uri=True)
    try:
        _read_owner(connection)
    finally:
        connection.close()


def _read_owner(connection: sqlite3.Connection) -> bool:
    """Whether the database is a store. It is empty if it is none. Raises DatabaseError."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    if not found and not application:
        return False
    if application != APPLICATION_ID:
        raise sqlite3.DatabaseError("the file is the database of another program")
    missing = {"revisions", "records"} - {name for (name,) in found}
    if missing:
        raise sqlite3.DatabaseError(f"it has no table {min(missing)}")
    return True


def _make_private(path: Path) -> None:
    """Take the rights of others away: a config may hold secrets.

    SQLite gives its other files (`-wal`, `-shm`) the rights of this one.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        try:
            path.chmod(mode & 0o700)
        except PermissionError:
            log.warning(
                "store %s: other users may read it, and this user may not change that", path
            )


def _sync_folder(folder: Path) -> None:
    """Let the name of a new file survive a power loss. SQLite does this for its other files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, *, in_memory: bool) -> None:
    """Check that the file is a store of this version, and create its tables if it is empty."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    with _transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not _read_owner(connection):
            for statement in (*_SCHEMA, *(() if in_memory else (_NO_DELETE,))):
                connection.execute(statement)
            version = 1
        _migrate(connection, version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Change the schema of this version to that of this release."""
    while version in _MIGRATIONS:
        for statement in _MIGRATIONS[version]:
            connection.execute(statement)
        version += 1
    if version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(
            f"the schema has version {version}, and this release reads {SCHEMA_VERSION}"
        )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that writes. Other processes wait for its end."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _append(
    connection: sqlite3.Connection,
    draft: Draft,
    content: bytes,
    expected: int | None,
    now: float,
    keep: int | None,
) -> Revision:
    """Append a revision, and delete all but the last `keep` revisions, if given."""
    with _transaction(connection):
        infos = _history(connection, None, 1)
        head = infos[0] if infos else None
        number = 0 if head is None else head.number
        if expected is not None and expected != number:
            raise ConflictError(head)
        row = (number + 1, draft.version, draft.author, now, draft.reason, draft.origin)
        connection.execute(_INSERT, (*row, draft.nodes, content))
        if keep is not None:
            connection.execute("DELETE FROM revisions WHERE number <= ?", (number + 1 - keep,))
    return Revision(*row, draft.text, nodes=draft.nodes)


def _revision(connection: sqlite3.Connection, clause: str, *values: int) -> Revision | None:
    row: _RevisionRow | None = connection.execute(f"{_REVISION} {clause}", values).fetchone()
    if row is None:
        return None
    return Revision(*row[:6], decompressed(row[7]), nodes=row[6])


def _history(connection: sqlite3.Connection, before: int | None, limit: int) -> list[RevisionInfo]:
    below = "" if before is None else "WHERE number < ?"
    rows: list[_InfoRow] = connection.execute(
        f"{_INFO} {below} ORDER BY number DESC LIMIT ?",
        (limit,) if before is None else (before, limit),
    ).fetchall()
    return [RevisionInfo(*row[:6], nodes=row[6]) for row in rows]


def _record(connection: sqlite3.Connection, key: str) -> Record | None:
    row = connection.execute("SELECT number, value FROM records WHERE key = ?", (key,)).fetchone()
    return None if row is None else Record(key, *row)


def _put_record(
    connection: sqlite3.Connection, key: str, value: bytes, expected: int | None
) -> Record:
    with _transaction(connection):
        present = _record(connection, key)
        number = 0 if present is None else present.number
        if expected is not None and expected != number:
            raise RecordConflictError(key, present)
        connection.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (key, number + 1, value)
        )
    return Record(key, number + 1, value)


def _records(connection: sqlite3.Connection, prefix: str) -> list[Record]:
    rows = connection.execute(
        "SELECT key, number, value FROM records WHERE substr(key, 1, ?) = ? ORDER BY key",
        (len(prefix), prefix),
    ).fetchall()
    return [Record(*row) for row in rows]
