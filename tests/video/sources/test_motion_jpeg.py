"""JPEG images in multipart bodies and sequences."""

import io
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sluice.contract.video import VideoReason
from tests.video.sources.samples import LIMITS, Chunks, failure, pixels
from video.source import FrameSource, SourceError
from video.sources import Sampling, SourceLimits, open_upload
from video.sources.jpeg_sequence import MAX_MARKERS, JpegSplitter
from video.sources.multipart import MAX_HEADER_BYTES, MultipartError, MultipartParser


def _jpeg(number: int, *, thumbnail: bool = False, progressive: bool = False) -> bytes:
    image = Image.effect_noise((40 + number, 24), 60).convert("RGB")
    exif = Image.Exif()
    if thumbnail:
        # A whole JPEG, with its end marker, in a segment.
        exif[0x010E] = _jpeg(0).decode("latin-1")
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, progressive=progressive, restart_marker_blocks=2)
    return file.getvalue()


IMAGES = [
    _jpeg(1),
    _jpeg(2, thumbnail=True),
    _jpeg(3, progressive=True),
    _jpeg(4, thumbnail=True, progressive=True),
]


def _multipart(
    images: list[bytes],
    *,
    length: bool = True,
    line: bytes = b"\r\n",
    delimiter: bytes = b"--frame",
    header: bytes = b"",
    end: bool = True,
) -> bytes:
    body = b""
    for image in images:
        body += delimiter + line + b"Content-Type: image/jpeg" + line + header
        if length:
            body += b"Content-Length: %d" % len(image) + line
        body += line + image + line
    return body + (delimiter + b"--" if end else delimiter) + line


def _open(
    body: bytes, content_type: str, limits: SourceLimits = LIMITS, size: int = 1 << 16
) -> FrameSource:
    return open_upload(Chunks(body, size), content_type, Sampling(), limits)


BOUNDARIES = [("frame", b"--frame"), ("--frame", b"--frame"), ("--frame", b"----frame")]


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize(("boundary", "delimiter"), BOUNDARIES)
@pytest.mark.parametrize("size", [1, 50, 1 << 16])
def test_the_images_of_a_multipart_body_come_unchanged(
    length: bool, line: bytes, end: bool, boundary: str, delimiter: bytes, size: int
) -> None:
    body = _multipart(IMAGES, length=length, line=line, delimiter=delimiter, end=end)
    source = _open(body, f"multipart/x-mixed-replace; boundary={boundary}", size=size)
    frames = list(source.frames())
    assert [pixels(each) for each in frames] == IMAGES
    assert [each.number for each in frames] == [0, 1, 2, 3]
    assert source.counts.received == 4
    assert source.counts.bytes == len(body)


@pytest.mark.parametrize("media_type", ["image/jpeg", "video/mjpeg", "video/x-motion-jpeg"])
@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_the_images_of_a_sequence_come_unchanged(media_type: str, size: int) -> None:
    source = _open(b"".join(IMAGES), media_type, size=size)
    frames = list(source.frames())
    assert [pixels(each) for each in frames] == IMAGES
    assert [each.time for each in frames] == pytest.approx([0, 0.04, 0.08, 0.12])


@pytest.mark.parametrize("name", ["X-Timestamp", "Content-Timestamp"])
def test_a_timestamp_of_a_part_is_its_time(name: str) -> None:
    body = b"".join(
        _multipart([IMAGES[0]], header=b"%s: %f\r\n" % (name.encode(), 1e9 + n), end=False)
        for n in (0, 0.5, 2)
    ).replace(b"--frame\r\n--frame", b"--frame")
    frames = list(_open(body, "multipart/x-mixed-replace; boundary=frame").frames())
    assert [each.time for each in frames] == pytest.approx([0, 0.5, 2])


def test_parts_of_other_types_are_ignored() -> None:
    text = b"--frame\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi\r\n"
    source = _open(text + _multipart(IMAGES), "multipart/mixed; boundary=frame")
    assert len(list(source.frames())) == source.counts.received == 4


def test_broken_images_are_counted_and_skipped() -> None:
    sequence = IMAGES[0] + b"\xff\xd8\xff\xe0\0\0" + IMAGES[1] + IMAGES[2][:-20]
    source = _open(sequence, "image/jpeg")
    assert [pixels(each) for each in source.frames()] == IMAGES[:2]
    assert (source.counts.received, source.counts.undecodable) == (4, 2)

    body = _multipart([IMAGES[0], b"GIF89a", IMAGES[1]])
    source = _open(body, "multipart/mixed; boundary=frame")
    assert [pixels(each) for each in source.frames()] == IMAGES[:2]
    assert (source.counts.received, source.counts.undecodable) == (3, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"x" * (MAX_HEADER_BYTES + 1),
        b"--frame\r\n" + b"a: b\r\n" * MAX_HEADER_BYTES,
        b"--frame\r\nContent-Length: 99999999999\r\n\r\n",
        b"--frame\r\nContent-Length: -1\r\n\r\n",
        b"--frame\r\nContent-Length: 1e3\r\n\r\n",
        _multipart([b"GIF89a"] * 200),
    ],
)
def test_a_body_that_is_not_multipart_is_broken(body: bytes) -> None:
    frames, reason = failure(_open(body, "multipart/mixed; boundary=frame"))
    assert (frames, reason) == ([], VideoReason.BROKEN_VIDEO)


@pytest.mark.parametrize("media_type", ["image/jpeg", "multipart/mixed; boundary=frame"])
def test_an_empty_video_is_an_error(media_type: str) -> None:
    assert failure(_open(b"", media_type)) == ([], VideoReason.NO_VIDEO)


@pytest.mark.parametrize("boundary", ["", "--", "x" * 201, "\u20ac"])
def test_a_multipart_body_needs_a_boundary(boundary: str) -> None:
    with pytest.raises(SourceError, match="boundary") as error:
        _open(b"", f"multipart/mixed; boundary={boundary}")
    assert error.value.reason is VideoReason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (replace(LIMITS, max_bytes=3000), VideoReason.TOO_MANY_BYTES),
        (replace(LIMITS, max_frames=3), VideoReason.TOO_MANY_FRAMES),
    ],
)
def test_limits_end_a_sequence(limits: SourceLimits, reason: VideoReason) -> None:
    frames, ended = failure(_open(b"".join(IMAGES), "image/jpeg", limits))
    assert ended is reason
    assert len(frames) < 4


@given(st.binary(max_size=2000), st.lists(st.integers(1, 300)))
def test_any_bytes_give_parts_or_an_error(data: bytes, cuts: list[int]) -> None:
    body = data.replace(b"F", b"--f\r\n").replace(b"L", b"Content-Length: 3\r\n\r\n")
    whole, parts = MultipartParser("f"), MultipartParser("f")
    try:
        expected = list(whole.feed(body))
    except MultipartError:
        return
    found = []
    for cut in cuts:
        found += parts.feed(body[:cut])
        body = body[cut:]
    assert found + list(parts.feed(body)) == expected


@given(st.binary(max_size=1000), st.integers(1, 100))
def test_any_bytes_give_images(data: bytes, size: int) -> None:
    data = data.replace(b"S", b"\xff\xd8").replace(b"E", b"\xff\xd9").replace(b"A", b"\xff\xda\0\2")
    expected = list(JpegSplitter().feed(data))
    splitter, found = JpegSplitter(), []
    for start in range(0, len(data), size):
        found += splitter.feed(data[start : start + size])
    assert found == expected


@pytest.mark.parametrize("length", [True, False])
def test_the_time_for_a_body_grows_with_its_size_only(length: bool) -> None:
    body = _multipart([b"\xff\xd8" + bytes(4 << 20)], length=length)
    source = _open(body, "multipart/mixed; boundary=frame", size=1000)
    began = time.process_time()
    assert len(list(source.frames())) == 1
    assert time.process_time() - began < 2


def test_an_image_with_very_many_markers_is_broken() -> None:
    splitter = JpegSplitter()
    for marker in (b"\xff\xe0\0\2", b"\xff\xd0"):
        many = b"\xff\xd8" + marker * (MAX_MARKERS + 1)
        assert list(splitter.feed(many + IMAGES[0])) == [IMAGES[0]]
    assert splitter.broken == 2
    filled = b"\xff\xd8" + b"\xff" * 1_000_000 + IMAGES[0][2:]
    assert list(splitter.feed(filled)) == [filled]
