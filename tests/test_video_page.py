"""docs/video.md names every media type, option, encoding, limit and reason of the video service."""

from collections.abc import Iterable
from pathlib import Path

from sluice.config.video_model import ModelVideo
from sluice.config.video_sinks import VideoSink
from sluice.contract.video import VIDEO_TYPES, DropReason, VideoReason
from video.results.encoding import Encoding
from video.service.options import OPTIONS

PAGE = (Path(__file__).parents[1] / "docs/video.md").read_text()


def unnamed(names: Iterable[str]) -> list[str]:
    return [name for name in names if f"`{name}`" not in PAGE]


def test_the_page_names_every_media_type() -> None:
    assert unnamed(VIDEO_TYPES) == []


def test_the_page_names_every_option() -> None:
    assert unnamed(OPTIONS) == []


def test_the_page_names_every_encoding() -> None:
    assert unnamed(encoding.content_type.partition(";")[0] for encoding in Encoding) == []


def test_the_page_names_every_key_of_a_model() -> None:
    assert unnamed(set(ModelVideo.model_fields) - {"input", "boxes"}) == []


def test_the_page_names_every_sink() -> None:
    assert unnamed(VideoSink.model_fields) == []


def test_the_page_names_every_reason() -> None:
    assert unnamed(str(reason) for reason in (*VideoReason, *DropReason)) == []
