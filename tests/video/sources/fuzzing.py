"""Mutated videos, for tests and the fuzzer. The number of an input determines it."""

import io
import random
import resource
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from PIL import Image

from tests.video.sources.samples import FORMATS, LIMITS, Chunks, encoded, muxed, pictures
from video.frame import DecodedImage
from video.source import SourceCounts, SourceError
from video.sources import Sampling, open_upload

MAX_ADDRESS_SPACE = 4 << 30
"""Bytes of a fuzzing process. A demuxer that allocates more fails, or crashes."""

_COUNT = 12
_LIMITS = replace(LIMITS, max_pixels=1 << 21, max_frames=5000, max_bytes=8 << 20)
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48 + number, 32), (9 * number, 80, 120)).save(file, "JPEG")
    return file.getvalue()


def _sequence() -> bytes:
    return b"".join(map(_jpeg, range(_COUNT)))


def _multipart() -> bytes:
    parts = []
    for number in range(_COUNT):
        image = _jpeg(number)
        length = b"Content-Length: %d\r\n" % len(image) if number % 2 else b""
        parts.append(b"--f\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + image + b"\r\n")
    return b"".join(parts) + b"--f--\r\n"


def _encoded(codec: str, gop: str, form: str) -> Callable[[], bytes]:
    return lambda: encoded(codec, gop, form, _COUNT)


SAMPLES: Mapping[str, tuple[tuple[str, Callable[[], bytes]], ...]] = {
    "mpegts": tuple(
        ("video/mp2t", _encoded(codec, "reordered", "ts")) for codec in ("h264", "hevc")
    ),
    "mp4": (
        *(("video/mp4", _encoded("h264", "reordered", form)) for form in ("mp4", "late")),
        *(("video/mp4", _encoded(codec, "ordered", "fragments")) for codec in ("h264", "hevc")),
        ("video/mp4", lambda: muxed("fragments", "mjpeg", {}, tuple(pictures(4)))),
    ),
    "h264": tuple((FORMATS["h264"][2], _encoded("h264", gop, "h264")) for gop in ("long", "open")),
    "hevc": tuple(
        (FORMATS["hevc"][2], _encoded("hevc", gop, "hevc")) for gop in ("open", "layers")
    ),
    "mjpeg": (
        ("image/jpeg", _sequence),
        ("multipart/x-mixed-replace; boundary=f", _multipart),
    ),
}
"""Content types and videos by demuxer."""


@cache
def _sample(demuxer: str, index: int) -> tuple[str, bytes]:
    content_type, make = SAMPLES[demuxer][index]
    return content_type, make()


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A video with some changes. Most are near its beginning, where the headers are."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 5, 10, 40))):
        limit = len(content) if draw.random() < 0.5 else min(len(content), 1200)
        if not limit:
            break
        at = draw.randrange(limit)
        match draw.randrange(7):
            case 0:
                content[at] ^= 1 << draw.randrange(8)
            case 1:
                content[at] = draw.randrange(256)
            case 2:
                content[at : at + 4] = draw.choice(_NUMBERS).to_bytes(4)
            case 3:
                del content[at : at + draw.randrange(1, 400)]
            case 4:
                content[at:at] = draw.randbytes(draw.randrange(1, 200))
            case 5:
                content[at:at] = content[at : at + draw.randrange(1, 2000)]
            case _:
                other = draw.randrange(len(content))
                size = draw.randrange(1, 200)
                content[at : at + size] = content[other : other + size]
    if draw.random() < 0.15:
        del content[draw.randrange(len(content) + 1) :]
    return bytes(content)


class Fuzzer:
    """Feeds mutated videos to one demuxer. Raises if anything but SourceError is raised."""

    def __init__(self, demuxer: str, *, limit_memory: bool = False) -> None:
        self._demuxer = demuxer
        if limit_memory:
            resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))

    def check(self, number: int) -> SourceCounts:
        """Feed one input. The counts of its source."""
        draw = random.Random(f"{self._demuxer}/{number}")
        index = draw.randrange(len(SAMPLES[self._demuxer]))
        content_type, data = _sample(self._demuxer, index)
        chunks = Chunks(mutated(data, draw), draw.choice((100, 1000, 1 << 16)))
        sampling = Sampling(draw.choice((None, None, 3.0, 12.0)))
        source = open_upload(chunks, content_type, sampling, _LIMITS)
        sampled, number, last = 0, -1, -1.0
        try:
            for frame in source.frames():
                sampled += 1
                assert frame.number > number, "numbers do not increase"
                assert frame.time >= last, "times decrease"
                number, last = frame.number, frame.time
                if isinstance(frame.image, DecodedImage):
                    image = frame.image.frame
                    assert image.width * image.height <= _LIMITS.max_pixels
        except SourceError:
            return source.counts
        counts = source.counts
        known = sampled + counts.skipped + counts.undecodable
        assert known == counts.received, f"{counts} and {sampled} sampled frames"
        return counts
