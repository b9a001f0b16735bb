"""Files are looked at after events of their folders, and also where there are no events."""

import asyncio
import logging
from pathlib import Path

import pytest

from xds.sources import folder_events
from xds.sources.folder_events import FolderEvents

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_events, "POLL_MS", 10)


async def test_there_is_a_look_from_time_to_time_without_events_and_without_folders(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(20):
        for folders in ((), (tmp_path,)):
            async for _ in FolderEvents("files").of(folders):
                break


async def test_folders_that_cannot_be_watched_are_looked_at_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    events = FolderEvents("the files of the test")
    async with asyncio.timeout(20):
        for _ in range(3):
            assert len([None async for _ in events.of([tmp_path / "absent"])]) == 1
    (line,) = caplog.messages
    assert line.startswith("cannot watch the files of the test, and compare the files every second")
