"""Videos that are stored until their index has arrived."""

import io
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from sluice.contract.video import VideoReason
from tests.largest_file import largest_file
from tests.video.sources.samples import encoded, failure, upload
from video.source import SourceError
from video.sources import spool
from video.sources.spool import spooled


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_file_has_the_content_and_no_name(folder: Path) -> None:
    with spooled(io.BytesIO(b"x" * 100_000), 100_000) as file:
        assert file.read() == b"x" * 100_000
        assert not list(folder.iterdir())


def test_a_video_has_a_limit() -> None:
    with (
        pytest.raises(SourceError, match="faststart") as error,
        spooled(io.BytesIO(bytes(100)), 99),
    ):
        pass
    assert error.value.reason is VideoReason.TOO_MANY_BYTES


def test_all_videos_have_a_limit_and_give_their_space_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool, "MAX_ALL_BYTES", 100)
    for _ in range(3):
        with spooled(io.BytesIO(bytes(60)), 1000):
            with pytest.raises(SourceError, match="other videos") as error, _stored(60):
                pass
            assert error.value.reason is VideoReason.TOO_MANY_BYTES
            with _stored(40):
                pass


def _stored(size: int) -> AbstractContextManager[IO[bytes]]:
    return spooled(io.BytesIO(bytes(size)), 1 << 20)


@pytest.mark.parametrize("size", [10_001, 100_000])
def test_a_full_disk_is_a_clear_error(size: int) -> None:
    with (
        largest_file(10_000),
        pytest.raises(SourceError, match="cannot be stored") as error,
        _stored(size),
    ):
        pass
    assert error.value.reason is VideoReason.TOO_MANY_BYTES


def test_a_video_with_its_index_at_the_end_is_stored(folder: Path) -> None:
    frames, reason = failure(upload(encoded(form="late"), "late"))
    assert (len(frames), reason) == (40, None)
    assert not list(folder.iterdir())
