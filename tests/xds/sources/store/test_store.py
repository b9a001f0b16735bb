"""Every backend keeps the history and the records as `Store` says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from xds.sources.store.redis import RedisStore
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import (
    MAX_RECORD,
    ConflictError,
    Draft,
    RecordConflictError,
    Revision,
    RevisionInfo,
    Store,
)

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.25


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    shared_redis = request.getfixturevalue("shared_redis") if request.param == "redis" else None
    opened: Store = {
        "memory": lambda: SqliteStore(now=lambda: NOW),
        "redis": lambda: RedisStore(
            f"{shared_redis.url}?prefix={uuid4().hex}", environment={}, now=lambda: NOW
        ),
        "sqlite": lambda: SqliteStore(tmp_path / "history.db", now=lambda: NOW),
    }[request.param]()
    yield opened
    await opened.close()


def draft(text: str = "{}", reason: str = "") -> Draft:
    return Draft(text, f"version of {text}", "ann", reason, "api")


async def test_an_empty_history_has_no_head(store: Store) -> None:
    assert await store.head() is None
    assert await store.revision(1) is None
    assert await store.history(None, 10) == []


async def test_revisions_are_numbered_from_one_and_keep_everything(store: Store) -> None:
    text = "models: {}  # größer → ✓\n" * 1000
    first = await store.append(Draft(text, "abc", "ann", "why not", "file g.yaml"), expected=0)
    assert first == Revision(1, "abc", "ann", first.at, "why not", "file g.yaml", text)
    assert first.at > 0
    second = await store.append(draft("b"), expected=1)
    assert second.number == 2
    assert await store.head() == second
    assert await store.revision(1) == first
    assert await store.revision(3) is None


async def test_a_revision_keeps_the_share_of_the_envoys_that_get_it_first(store: Store) -> None:
    staged = await store.append(replace(draft("a"), nodes=0.1), expected=0)
    unstaged = await store.append(draft("b"), expected=1)
    assert (staged.nodes, unstaged.nodes) == (0.1, None)
    assert [await store.revision(n) for n in (1, 2)] == [staged, unstaged]
    assert await store.history(None, 2) == [unstaged.info, staged.info]


async def test_an_append_to_another_head_changes_nothing(store: Store) -> None:
    with pytest.raises(ConflictError) as refused:
        await store.append(draft(), expected=1)
    assert refused.value.head is None
    await store.append(draft("a"), expected=0)
    head = await store.append(draft("b"), expected=None)
    for expected in (0, 1, 3):
        with pytest.raises(ConflictError, match="revision 2") as refused:
            await store.append(draft("c"), expected=expected)
        assert refused.value.head == head.info
    assert await store.head() == head


async def test_one_of_concurrent_writers_wins(store: Store) -> None:
    results = await asyncio.gather(
        *(store.append(draft(str(n)), expected=0) for n in range(20)), return_exceptions=True
    )
    won = [each for each in results if isinstance(each, Revision)]
    assert len(won) == 1
    assert sum(isinstance(each, ConflictError) for each in results) == 19
    assert await store.head() == won[0]


async def test_the_history_is_listed_from_the_newest_in_pages(store: Store) -> None:
    appended = [await store.append(draft(str(n)), expected=n) for n in range(5)]
    infos: list[RevisionInfo] = [each.info for each in reversed(appended)]
    assert await store.history(None, 2) == infos[:2]
    assert await store.history(4, 2) == infos[2:4]
    assert await store.history(2, 10) == infos[4:]
    assert await store.history(1, 10) == []
    assert await store.history(None, 0) == []


async def test_changes_yield_every_later_revision_in_order(store: Store) -> None:
    for n in range(3):
        await store.append(draft(str(n)), expected=None)
    async with asyncio.timeout(60):
        changes = store.changes(after=1)
        assert [(await anext(changes)).number for _ in range(2)] == [2, 3]
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        appended = await store.append(draft("new"), expected=3)
        assert await waiting == appended
        await changes.aclose()


async def test_changes_without_a_number_begin_after_the_head(store: Store) -> None:
    await store.append(draft("old"), expected=0)
    changes = store.changes()
    waiting = asyncio.ensure_future(anext(changes))
    # The iterator has read the head when the store answers a question that was asked later.
    await asyncio.sleep(0)
    await store.head()
    appended = await store.append(draft("new"), expected=1)
    async with asyncio.timeout(60):
        assert await waiting == appended
    await changes.aclose()


async def test_a_record_is_written_only_over_the_expected_one(store: Store) -> None:
    assert await store.record("canary/m") is None
    first = await store.put_record("canary/m", b"\x00one", expected=0)
    assert (first.number, first.value) == (1, b"\x00one")
    second = await store.put_record("canary/m", b"two", expected=1)
    assert second.number == 2
    for expected in (0, 1, 3):
        with pytest.raises(RecordConflictError) as refused:
            await store.put_record("canary/m", b"three", expected=expected)
        assert refused.value.record == second
    assert await store.record("canary/m") == second
    assert (await store.put_record("canary/m", b"four", expected=None)).number == 3


async def test_records_are_found_by_prefix(store: Store) -> None:
    for key in ("canary/b", "canary/a", "rollout", "canary*", "canary/ä"):
        await store.put_record(key, key.encode(), expected=None)
    found = await store.records("canary/")
    assert [(each.key, each.value) for each in found] == [
        ("canary/a", b"canary/a"),
        ("canary/b", b"canary/b"),
        ("canary/ä", "canary/ä".encode()),
    ]


async def test_a_record_that_is_too_large_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="more than"):
        await store.put_record("k", bytes(MAX_RECORD + 1), expected=None)
    assert await store.record("k") is None
