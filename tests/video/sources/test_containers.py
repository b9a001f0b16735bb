"""Containers: limits, hostile content, broken content."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.contract.video import VideoReason
from tests.video.sources.samples import (
    FORMATS,
    LIMITS,
    Chunks,
    encoded,
    failure,
    muxed,
    pictures,
    pixels,
    upload,
)
from video.frame import EncodedImage
from video.source import SourceError
from video.sources import ByteQueue, Sampling, SourceLimits, open_upload
from video.sources.containers import DEMUXERS

CONTAINERS = [("h264", form) for form in ("ts", "mp4", "late", "fragments", "h264")] + [
    ("hevc", "hevc")
]


@pytest.mark.parametrize(("codec", "form"), CONTAINERS)
def test_the_size_of_the_chunks_does_not_matter(codec: str, form: str) -> None:
    data = encoded(codec, form=form)
    source = open_upload(Chunks(data, 97), FORMATS[form][2], Sampling(), LIMITS)
    expected = [pixels(each) for each in upload(data, form).frames()]
    assert [pixels(each) for each in source.frames()] == expected
    assert source.counts.bytes == len(data)


@pytest.mark.parametrize("media_type", ["video/webm", "application/x-mpegurl", "text/plain", ""])
def test_other_content_types_are_refused(media_type: str) -> None:
    with pytest.raises(SourceError, match="video/mp4") as error:
        open_upload(Chunks(b""), media_type, Sampling(), LIMITS)
    assert error.value.reason is VideoReason.UNSUPPORTED_FORMAT


def test_a_very_long_content_type_is_not_parsed() -> None:
    with pytest.raises(SourceError, match="characters") as error:
        open_upload(Chunks(b""), "video/mp4" + ';a="b"' * 1000, Sampling(), LIMITS)
    assert error.value.reason is VideoReason.UNSUPPORTED_FORMAT


def test_parameters_and_case_of_the_content_type_do_not_matter() -> None:
    source = open_upload(Chunks(encoded()), "Video/MP2T; codecs=x", Sampling(), LIMITS)
    assert len(list(source.frames())) == 40


def test_jpeg_frames_of_an_mp4_are_not_decoded() -> None:
    data = muxed("fragments", "mjpeg", {}, tuple(pictures(5)))
    frames = list(upload(data, "mp4").frames())
    assert len(frames) == 5
    for frame in frames:
        assert isinstance(frame.image, EncodedImage)
        assert frame.image.data.startswith(b"\xff\xd8")


@pytest.mark.parametrize(("codec", "form"), CONTAINERS)
def test_a_truncated_video_ends_cleanly(codec: str, form: str) -> None:
    data = encoded(codec, form=form)
    frames, reason = failure(upload(data[: len(data) * 2 // 3], form))
    if form == "late":  # The index is at the end.
        assert (frames, reason) == ([], VideoReason.BROKEN_VIDEO)
    elif form in ("mp4", "fragments"):  # Their boxes have sizes.
        assert len(frames) > 10
        assert reason is VideoReason.BROKEN_VIDEO
    else:
        assert len(frames) > 10
        assert reason in (None, VideoReason.BROKEN_VIDEO)


@pytest.mark.parametrize(("codec", "form"), CONTAINERS)
@pytest.mark.parametrize("data", [b"", b"\0" * 10_000, b"nothing that is a video " * 1000])
def test_garbage_is_a_clear_error(codec: str, form: str, data: bytes) -> None:
    frames, reason = failure(upload(data, form))
    assert not frames
    assert reason in (VideoReason.BROKEN_VIDEO, VideoReason.NO_VIDEO)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (replace(LIMITS, max_bytes=9000), VideoReason.TOO_MANY_BYTES),
        (replace(LIMITS, max_frames=20), VideoReason.TOO_MANY_FRAMES),
        (replace(LIMITS, max_seconds=0.5), VideoReason.TOO_LONG),
        (replace(LIMITS, max_pixels=96 * 64 - 1), VideoReason.TOO_MANY_PIXELS),
    ],
)
@pytest.mark.parametrize(("codec", "form"), CONTAINERS)
@pytest.mark.parametrize("rate", [None, 2.0])
def test_limits_end_a_video(
    codec: str, form: str, limits: SourceLimits, reason: VideoReason, rate: float | None
) -> None:
    frames, ended = failure(upload(encoded(codec, form=form), form, rate, limits))
    assert ended is reason
    assert len(frames) <= 20


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_larger_resolution_in_mid_stream_is_refused_before_it_is_decoded(codec: str) -> None:
    small, large = (encoded(codec, form=codec, width=w, height=w) for w in (64, 128))
    frames, reason = failure(upload(small + large, codec, None, replace(LIMITS, max_pixels=5000)))
    assert reason is VideoReason.TOO_MANY_PIXELS
    assert {each.image.frame.width for each in frames} == {64}


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_resolution_can_change_in_mid_stream(codec: str) -> None:
    small, large = (encoded(codec, form=codec, width=w, height=w) for w in (64, 128))
    frames = list(upload(small + large + small, codec).frames())
    assert [each.image.frame.width for each in frames] == [64] * 40 + [128] * 40 + [64] * 40
    assert [each.number for each in frames] == list(range(120))


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile '%s'\n"
SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 1 RTP/AVP 96\n#%s\n"


@pytest.mark.parametrize("script", [PLAYLIST, CONCAT, SDP])
@pytest.mark.parametrize("media_type", DEMUXERS)
def test_no_other_file_is_opened(tmp_path: Path, media_type: str, script: bytes) -> None:
    (tmp_path / "secret.ts").write_bytes(encoded())
    data = script % bytes(tmp_path / "secret.ts")
    frames, reason = failure(open_upload(Chunks(data), media_type, Sampling(), LIMITS))
    assert not frames
    assert reason in (VideoReason.BROKEN_VIDEO, VideoReason.NO_VIDEO)


@pytest.mark.parametrize(("codec", "form"), CONTAINERS)
def test_a_damaged_video_gives_frames_or_an_error(codec: str, form: str) -> None:
    data = bytearray(encoded(codec, form=form))
    for position in range(len(data) // 2, len(data), 997):
        data[position] ^= 0x5A
    source = upload(bytes(data), form)
    frames, _ = failure(source)
    counts = source.counts
    assert [each.number for each in frames] == sorted(each.number for each in frames)
    assert len(frames) + counts.skipped + counts.undecodable <= counts.received


def test_frames_before_the_first_key_frame_are_counted_as_undecodable() -> None:
    data = encoded(form="h264")
    second = data.find(b"\0\0\1\x41")
    source = upload(data[second:], "h264")
    frames = list(source.frames())
    assert source.counts.received == 39
    assert source.counts.undecodable == 11
    assert [each.number for each in frames] == list(range(11, 39))


def test_a_stream_without_a_key_frame_is_broken() -> None:
    data = encoded(gop="long", form="h264")
    frame = data[data.find(b"\0\0\1\x41") : data.rfind(b"\0\0\1")]
    frames, reason = failure(upload(frame * 40, "h264"))
    assert (frames, reason) == ([], VideoReason.BROKEN_VIDEO)


@pytest.mark.anyio
async def test_close_ends_frames_that_wait_for_bytes() -> None:
    queue = ByteQueue(idle_timeout=60)
    source = open_upload(queue, "video/mp2t", Sampling(), LIMITS)
    await queue.put(encoded())
    thread = threading.Thread(target=lambda: list(source.frames()))
    thread.start()
    source.close()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.anyio
async def test_an_idle_upload_ends_with_its_frames_and_the_reason() -> None:
    queue = ByteQueue(idle_timeout=0.05)
    source = open_upload(queue, "video/mp2t", Sampling(), LIMITS)
    await queue.put(encoded())
    frames, reason = failure(source)
    assert len(frames) == 40
    assert reason is VideoReason.IDLE


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("codec", "form"), CONTAINERS)
def test_mutated_videos_never_raise_anything_else(
    codec: str, form: str, data: st.DataObject
) -> None:
    content = bytearray(encoded(codec, form=form, count=12))
    draw: Callable[[st.SearchStrategy[int]], int] = data.draw
    for _ in range(draw(st.integers(1, 8))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    del content[draw(st.integers(0, len(content))) :]
    source = upload(bytes(content), form)
    frames, _ = failure(source)
    assert len(frames) <= source.counts.received


def test_frames_with_timestamps_in_the_wrong_order_all_come_in_the_order_of_the_decoder() -> None:
    data = encoded(gop="reordered", form="mp4")
    expected = [pixels(each) for each in upload(data, "mp4").frames()]
    # Without the table of composition offsets, timestamps are in decoding order.
    frames = list(upload(data.replace(b"ctts", b"free"), "mp4").frames())
    assert [pixels(each) for each in frames] == expected
    assert [each.number for each in frames] == sorted({each.number for each in frames})
    assert [each.time for each in frames] == sorted(each.time for each in frames)
