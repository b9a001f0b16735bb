"""A store in a file survives the process, is append-only, and is for this user only."""

import asyncio
import os
import secrets
import sqlite3
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bench.store_kill import History, kill_one
from tests.largest_file import largest_file
from xds.sources.store import sqlite
from xds.sources.store.availability import LOG_INTERVAL, Availability
from xds.sources.store.sqlite import APPLICATION_ID, MAX_IN_MEMORY, SqliteStore
from xds.sources.store.store import Draft, Revision, StoreError, StoreUnavailableError

pytestmark = pytest.mark.anyio


EARLIER_RELEASE = (
    "CREATE TABLE revisions (number INTEGER PRIMARY KEY, version TEXT NOT NULL, "
    "author TEXT NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL, origin TEXT NOT NULL, "
    "text BLOB NOT NULL) STRICT",
    "CREATE TABLE records (key TEXT PRIMARY KEY, number INTEGER NOT NULL, value BLOB NOT NULL) "
    "STRICT, WITHOUT ROWID",
    "CREATE TRIGGER revisions_are_kept BEFORE DELETE ON revisions "
    "BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END",
    "PRAGMA application_id = 1399616867",
    "PRAGMA user_version = 1",
)
"""The schema of a file before revisions had the share of the Envoys that get them first."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def draft(text: str = "{}") -> Draft:
    return Draft(text, "v", "ann", "", "api")


def readable_by_all(path: Path) -> None:
    path.touch()
    path.chmod(0o644)


def remove(path: Path) -> None:
    path.unlink()


async def test_the_history_survives_the_process(path: Path) -> None:
    first = SqliteStore(path)
    revision = await first.append(draft("a"), expected=0)
    record = await first.put_record("k", b"v", expected=0)
    await first.close()
    second = SqliteStore(path)
    assert await second.head() == revision
    assert await second.records("") == [record]
    await second.close()


async def test_another_process_sees_new_revisions(path: Path) -> None:
    reader, writer = SqliteStore(path), SqliteStore(path)
    changes = reader.changes(after=0)
    waiting = asyncio.ensure_future(anext(changes))
    appended = await writer.append(draft("a"), expected=0)
    async with asyncio.timeout(60):
        assert await waiting == appended
    await changes.aclose()
    await reader.close()
    await writer.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE revisions SET author = 'eve'",
        "DELETE FROM revisions",
        "INSERT OR REPLACE INTO revisions VALUES (1, '', '', 0, '', '', x'', NULL)",
        "INSERT INTO revisions VALUES (3, '', '', 0, '', '', x'', NULL)",
    ],
)
async def test_the_file_refuses_changes_of_the_history(path: Path, statement: str) -> None:
    store = SqliteStore(path)
    revision = await store.append(draft("a"), expected=0)
    with sqlite3.connect(path) as other, pytest.raises(sqlite3.Error, match="append-only"):
        other.execute(statement)
    assert await store.history(None, 10) == [revision.info]
    await store.close()


async def test_only_this_user_may_read_the_files(path: Path) -> None:
    readable_by_all(path)
    store = SqliteStore(path)
    await store.append(draft("password"), expected=0)
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    await store.close()


async def test_a_file_that_was_removed_is_noticed_before_a_revision_is_lost(path: Path) -> None:
    store = SqliteStore(path)
    remove(path)
    with pytest.raises(StoreUnavailableError, match="was removed or replaced"):
        await store.append(draft(), expected=0)
    await store.close()


async def test_a_damaged_revision_is_logged_and_ends_no_reader(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(path)
    first = await store.append(draft("a"), expected=0)
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO revisions VALUES (2, 'v', 'ann', 0, '', 'api', x'00', NULL)")
    changes = store.changes(after=first.number)
    waiting = asyncio.ensure_future(anext(changes))
    async with asyncio.timeout(60):
        while not waiting.done() and "is damaged" not in caplog.text:
            await store.revision(1)
    assert not waiting.done()
    assert "no config changes" in caplog.text
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await store.close()


async def test_a_text_in_the_store_is_read_only_up_to_the_size_of_a_config(path: Path) -> None:
    store = SqliteStore(path)
    for size, damage in (((16 << 20) + 1, "more than 16 MiB"), (0, "incomplete")):
        text = zlib.compress(b"#" * size) if size else zlib.compress(b"{}")[:-2]
        number = 1 if size else 2
        with sqlite3.connect(path) as other:
            insert = f"INSERT INTO revisions VALUES ({number}, 'v', 'ann', 0, '', 'api', ?, NULL)"
            other.execute(insert, (text,))
        with pytest.raises(StoreUnavailableError, match=rf"is damaged.*{damage}"):
            await store.head()
    await store.close()


async def test_a_full_disk_refuses_an_append_and_loses_nothing(path: Path) -> None:
    store = SqliteStore(path)
    revision = await store.append(draft("a"), expected=0)
    with largest_file(1 << 16), pytest.raises(StoreUnavailableError, match="check the disk"):
        await store.append(draft(secrets.token_hex(1 << 18)), expected=1)
    assert await store.head() == revision
    assert (await store.append(draft("b"), expected=1)).number == 2
    await store.close()


@pytest.mark.parametrize("program", ["models: {}\n" * 100, "CREATE TABLE t (x)"])
def test_a_file_of_another_program_is_refused_and_stays_as_it_is(path: Path, program: str) -> None:
    if program.startswith("CREATE"):
        with closing(sqlite3.connect(path)) as other:
            other.execute(program)
    else:
        path.write_text(program)
    path.chmod(0o644)
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"is not a store: .*; restore its file from a copy"):
        SqliteStore(path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o644)
    assert list(path.parent.iterdir()) == [path]


def test_what_is_no_regular_file_is_refused_and_stays_as_it_is(path: Path) -> None:
    os.mkfifo(path, 0o644)
    with pytest.raises(StoreError, match="Not a regular file"):
        SqliteStore(path)
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(StoreError, match="Is a directory"):
        SqliteStore(path.parent)


def test_a_store_without_its_tables_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    with pytest.raises(StoreError, match="it has no table records; restore"):
        SqliteStore(path)


def test_a_store_that_another_process_has_locked_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore(path)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process writes to it: wait"):
            SqliteStore(path)


def test_a_store_whose_parts_fail_in_turn_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    caplog.set_level("INFO")
    availability = Availability("s", lambda: now)
    for _ in range(30):
        availability.failed("broken")
        availability.succeeded()
    assert len(caplog.records) == 2
    now = LOG_INTERVAL
    availability.failed("broken")
    assert len(caplog.records) == 3


def test_a_later_schema_is_refused(path: Path) -> None:
    SqliteStore(path)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match="version 9"):
        SqliteStore(path)


async def test_a_file_of_an_earlier_release_keeps_its_history(path: Path) -> None:
    with sqlite3.connect(path) as earlier:
        for statement in EARLIER_RELEASE:
            earlier.execute(statement)
        insert = "INSERT INTO revisions VALUES (1, 'v', 'ann', 7, 'why', 'api', ?)"
        earlier.execute(insert, (zlib.compress(b"{}"),))
    store = SqliteStore(path)
    first = Revision(1, "v", "ann", 7, "why", "api", "{}")
    assert await store.head() == first
    second = await store.append(replace(draft("b"), nodes=0.5), expected=1)
    await store.close()
    again = SqliteStore(path)
    assert await again.history(None, 10) == [second.info, first.info]
    await again.close()
    with sqlite3.connect(path) as other, pytest.raises(sqlite3.Error, match="append-only"):
        other.execute("DELETE FROM revisions")


def test_a_folder_that_does_not_exist_has_a_remedy(path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"name a file in a folder that"):
        SqliteStore(path.parent / "none" / "history.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_that_cannot_be_written_has_a_remedy(path: Path) -> None:
    path.parent.chmod(0o500)
    with pytest.raises(StoreUnavailableError, match="let this user write it"):
        SqliteStore(path)


async def test_a_store_in_memory_keeps_its_last_revisions() -> None:
    store = SqliteStore()
    for n in range(MAX_IN_MEMORY + 3):
        await store.append(draft(str(n)), expected=n)
    assert await store.revision(3) is None
    assert (await store.history(5, 10))[-1].number == 4
    changes = store.changes(after=0)
    assert (await anext(changes)).number == 4
    await changes.aclose()
    await store.close()


def test_no_revision_is_lost_or_half_written_when_the_process_is_killed(path: Path) -> None:
    # `python -m bench.store_kill` does the same 200 times, at random moments.
    history = History(path)
    for wait in (0.0, 0.003, 0.01, 0.03):
        kill_one(history, wait)
        history.check()
    assert len(history.reported) >= 4
