"""Videos that lie: sizes, numbers of samples, references. Nothing grows, nothing is opened."""

import re
import resource
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.contract.video import VideoReason
from tests.video.sources.samples import LIMITS, encoded, failure, upload
from video.sources import Sampling, open_upload
from video.sources.mp4 import MAX_CHILDREN, MAX_SAMPLES
from video.sources.parameter_sets import read_h264, read_h265

LARGE = 60_000
MAX_GROWTH = 50_000
"""KiB of resident memory."""


class Bits:
    """Writes the fields of a parameter set."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, value: int, count: int) -> "Bits":
        self._text += f"{value:0{count}b}"
        return self

    def unsigned(self, *values: int) -> "Bits":
        for value in values:
            code = f"{value + 1:b}"
            self._text += "0" * (len(code) - 1) + code
        return self

    def nal(self, header: bytes) -> bytes:
        text = self._text + "1"
        text += "0" * (-len(text) % 8)
        data = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
        # Emulation prevention (H.264, 7.4.1).
        return header + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)


def h264_sps(width: int, height: int) -> bytes:
    bits = Bits().add(66, 8).add(0, 8).add(51, 8)
    bits.unsigned(0, 0, 2, 1).add(0, 1).unsigned(width // 16 - 1, height // 16 - 1)
    return bits.add(1, 1).add(1, 1).add(0, 1).add(0, 1).nal(b"\x67")


def h265_sps(width: int, height: int) -> bytes:
    bits = Bits().add(0, 4).add(0, 3).add(1, 1).add(0, 96)
    bits.unsigned(0, 1, width, height).add(0, 1).unsigned(0, 0, 4).add(1, 1).unsigned(4, 2, 0)
    return bits.nal(b"\x42\1")


def test_parameter_sets_are_read() -> None:
    first, second = read_h264(h264_sps(LARGE, LARGE)), read_h265(h265_sps(LARGE, 32))
    assert (first.width, first.height, first.reorder) == (LARGE, LARGE, 0)
    assert (second.width, second.height, second.reorder) == (LARGE, 32, 2)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(("codec", "sps"), [("h264", h264_sps), ("hevc", h265_sps)])
@pytest.mark.parametrize("side", [LARGE, 40_000, 16_000])
def test_a_large_header_allocates_no_frame(codec: str, sps: object, side: int) -> None:
    assert callable(sps)
    data = encoded(codec, form=codec)
    limits = replace(LIMITS, max_pixels=16_000 * 15_999)
    before = _peak()
    for content in (
        b"\0\0\0\1" + sps(side, side) + data,
        data + b"\0\0\0\1" + sps(side, side) + data,
    ):
        frames, reason = failure(upload(content, codec, None, limits))
        assert reason is VideoReason.TOO_MANY_PIXELS
        assert len(frames) <= 40
    assert _peak() - before < MAX_GROWTH


def _box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I", 8 + len(data)) + kind + data


def _replaced(data: bytes, kind: bytes, content: bytes) -> bytes:
    """An MP4 with other content in a box, padded with free space."""
    at = data.index(kind) - 4
    size = int.from_bytes(data[at : at + 4])
    box = _box(kind, content)
    assert len(box) <= size
    rest = size - len(box)
    return data[:at] + box + (_box(b"free", bytes(rest - 8)) if rest else b"") + data[at + size :]


@pytest.mark.parametrize("form", ["mp4", "late"])
def test_a_table_that_declares_too_many_samples_allocates_nothing(form: str) -> None:
    data = encoded(form=form)
    content = struct.pack(">III", 0, 1, 0x7FFFFFFF)  # all of one size
    before = _peak()
    frames, reason = failure(upload(_replaced(data, b"stsz", content), form))
    assert (frames, reason) == ([], VideoReason.TOO_MANY_FRAMES)
    content = struct.pack(">IIII", 0, 1, MAX_SAMPLES + 1, 512)
    frames, reason = failure(upload(_replaced(data, b"stts", content), form))
    assert (frames, reason) == ([], VideoReason.TOO_MANY_FRAMES)
    assert _peak() - before < MAX_GROWTH


@pytest.mark.parametrize("form", ["mp4", "late"])
@pytest.mark.parametrize("kind", [b"stco", b"stss", b"stsc", b"stts", b"stsz"])
def test_a_table_that_declares_more_entries_than_it_has_is_refused(kind: bytes, form: str) -> None:
    data = bytearray(encoded(form=form))
    count = data.index(kind) + (12 if kind == b"stsz" else 8)
    data[count : count + 4] = struct.pack(">I", MAX_SAMPLES)
    # The demuxer would take what follows for entries.
    data += _box(b"free", bytes(1 << 20))
    assert failure(upload(bytes(data), form)) == ([], VideoReason.BROKEN_VIDEO)


def test_a_fragment_that_declares_too_many_samples_allocates_nothing() -> None:
    data = encoded(form="fragments")
    before = _peak()
    content = struct.pack(">II", 0, 0x7FFFFFFF)  # without fields for each sample
    frames, reason = failure(upload(_replaced(data, b"trun", content), "fragments"))
    assert not frames
    assert reason is VideoReason.TOO_MANY_FRAMES
    assert _peak() - before < MAX_GROWTH


def test_a_reference_to_another_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(encoded(form="mp4", gop="long"))
    data = encoded(form="mp4")
    path = str(tmp_path / "secret.mp4").encode()
    # An alias with an absolute path, and with flags that say that the data is in another file.
    alias = struct.pack(">I", 0) + bytes(150) + struct.pack(">hH", 2, len(path)) + path
    reference = _box(b"dref", struct.pack(">II", 0, 1), _box(b"alis", alias))
    at = data.index(b"dinf") - 4
    size = int.from_bytes(data[at : at + 4])
    grown = _box(b"dinf", reference)
    changed = bytearray(data[:at] + grown + data[at + size :])
    for kind in (b"moov", b"trak", b"mdia", b"minf"):
        position = changed.index(kind) - 4
        length = int.from_bytes(changed[position : position + 4]) + len(grown) - size
        changed[position : position + 4] = struct.pack(">I", length)
    frames, reason = failure(upload(bytes(changed), "mp4"))
    # The samples are no longer where the index says, and are not read from the other file either.
    assert reason in (None, VideoReason.BROKEN_VIDEO)
    assert len(frames) < 40


@pytest.mark.parametrize(
    "content",
    [
        _box(b"moov", *[_box(b"free")] * (MAX_CHILDREN + 1)),
        struct.pack(">I", 1 << 30) + b"moov" + bytes(1000),
        _box(b"moov", struct.pack(">I", 100) + b"trak"),
        _box(b"moof"),
        _box(b"mdat") + _box(b"free") * MAX_CHILDREN,
        _box(b"ftyp") + _box(b"moov") + _box(b"moov"),
        struct.pack(">I", 4) + b"moov",
    ],
)
def test_an_index_that_lies_is_a_clear_error(content: bytes) -> None:
    assert failure(upload(content, "mp4")) == ([], VideoReason.BROKEN_VIDEO)


def _nested(kind: bytes, depth: int) -> bytes:
    box = b""
    for _ in range(depth):
        box = _box(kind, box)
    return box


def test_boxes_in_boxes_without_end_are_no_video() -> None:
    content = _box(b"moov", _box(b"trak", _nested(b"mdia", 5000)))
    assert failure(upload(content, "mp4")) == ([], VideoReason.NO_VIDEO)


def test_an_index_at_the_end_of_a_large_video_is_refused() -> None:
    data = encoded(form="late")
    limits = replace(LIMITS, max_bytes=len(data) - 1)
    assert failure(upload(data, "late", None, limits)) == ([], VideoReason.TOO_MANY_BYTES)


def test_an_endless_upload_without_frames_ends() -> None:
    class Endless:
        def read(self, size: int, /) -> bytes:
            return bytes(size)

        def close(self) -> None: ...

    before = _peak()
    for media_type in ("video/mp2t", "video/mp4", "video/h264", "video/h265", "image/jpeg"):
        _, reason = failure(open_upload(Endless(), media_type, Sampling(), LIMITS))
        assert reason in (VideoReason.BROKEN_VIDEO, VideoReason.NO_VIDEO)
    assert _peak() - before < 4 * MAX_GROWTH
