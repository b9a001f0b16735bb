"""Files for the command line."""

import time
from pathlib import Path

import pytest

from sluice.contract.video import VideoReason
from tests.video.sources.samples import LIMITS, encoded, pixels
from video.source import SourceError
from video.sources import Sampling, open_file


def _written(path: Path, form: str = "ts", codec: str = "h264", count: int = 12) -> Path:
    path.write_bytes(encoded(codec, form=form, count=count))
    return path


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.mp4", "mp4"), ("a", "ts"), ("a.unknown", "late"), ("a.h264", "h264"), ("a.jpg", "ts")],
)
def test_the_format_is_found(tmp_path: Path, name: str, form: str) -> None:
    frames = list(open_file(_written(tmp_path / name, form), Sampling(), LIMITS).frames())
    assert [each.number for each in frames] == list(range(12))


def test_numbers_times_and_counts_go_on_when_the_film_starts_again(tmp_path: Path) -> None:
    source = open_file(_written(tmp_path / "a.ts"), Sampling(15), LIMITS, loops=3)
    frames = list(source.frames())
    assert [each.number for each in frames] == list(range(0, 36, 2))
    assert [each.time for each in frames] == pytest.approx([n / 15 for n in range(18)], abs=1e-3)
    assert [pixels(each) for each in frames[:6]] == [pixels(each) for each in frames[6:12]]
    assert (source.counts.received, source.counts.skipped) == (36, 18)


def test_a_paced_file_takes_as_long_as_the_film(tmp_path: Path) -> None:
    source = open_file(_written(tmp_path / "a.ts"), Sampling(), LIMITS, paced=True)
    began = time.monotonic()
    frames = list(source.frames())
    assert time.monotonic() - began >= 11 / 30
    for frame in frames:
        assert frame.arrived - began >= frame.time - 0.001


def test_an_endless_film_ends_when_it_is_closed(tmp_path: Path) -> None:
    source = open_file(_written(tmp_path / "a.ts"), Sampling(), LIMITS, loops=0)
    for count, _ in enumerate(source.frames()):
        if count == 30:
            source.close()
    assert count == 30


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read") as error:
        open_file(tmp_path / "missing.mp4", Sampling(), LIMITS)
    assert error.value.reason is VideoReason.STREAM_NOT_FOUND
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(SourceError, match="suffix") as error:
        open_file(tmp_path / "a.txt", Sampling(), LIMITS)
    assert error.value.reason is VideoReason.UNSUPPORTED_FORMAT
