"""Small videos for tests: each frame differs from the others, and is known by its number."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import cache

import av
import numpy as np

from sluice.contract.video import VideoReason
from video.frame import DecodedImage, EncodedImage, Frame
from video.source import FrameSource, SourceError
from video.sources import Sampling, SourceLimits, open_upload

WIDTH, HEIGHT, RATE = 96, 64, 30

X264 = {
    "ordered": {"tune": "zerolatency", "g": "12", "preset": "ultrafast"},
    "reordered": {"bf": "3", "g": "12", "preset": "fast", "x264-params": "b-pyramid=normal"},
    "open": {"bf": "3", "g": "12", "preset": "fast", "x264-params": "open-gop=1"},
    "long": {"bf": "2", "g": "1000", "preset": "fast"},
}
_X265 = "log-level=none:pools=none:frame-threads=1:"
X265 = {
    "ordered": {"preset": "ultrafast", "x265-params": _X265 + "bframes=0:keyint=12:min-keyint=12"},
    "reordered": {
        "preset": "ultrafast",
        "x265-params": _X265 + "bframes=3:b-pyramid=1:open-gop=0:keyint=12:min-keyint=12",
    },
    "open": {
        "preset": "ultrafast",
        "x265-params": _X265 + "bframes=3:b-pyramid=1:open-gop=1:keyint=12:min-keyint=12",
    },
    "layers": {
        "preset": "ultrafast",
        "x265-params": _X265 + "bframes=3:b-pyramid=1:temporal-layers=2:keyint=12:min-keyint=12",
    },
}
ENCODERS: Mapping[str, tuple[str, Mapping[str, Mapping[str, str]]]] = {
    "h264": ("libx264", X264),
    "hevc": ("libx265", X265),
}
FORMATS = {
    "ts": ("mpegts", {}, "video/mp2t"),
    "mp4": ("mp4", {"movflags": "faststart"}, "video/mp4"),
    "late": ("mp4", {}, "video/mp4"),
    "fragments": ("mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, "video/mp4"),
    "h264": ("h264", {}, "video/h264"),
    "hevc": ("hevc", {}, "video/h265"),
}
"""Muxer, its options, and the media type."""

LIMITS = SourceLimits(
    max_bytes=None, max_seconds=None, max_frames=None, max_pixels=1 << 20, idle_timeout=5.0
)


def pictures(count: int, width: int = WIDTH, height: int = HEIGHT) -> Iterator[av.VideoFrame]:
    """Frames that move over a random pattern."""
    random = np.random.default_rng(7)
    shape = (height // 4 + count // 2 + 2, width // 4 + count // 2 + 2, 3)
    pattern = random.integers(0, 255, shape, dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    for index in range(count):
        image = pattern[2 * index :][:height, index : index + width]
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")


@cache
def encoded(
    codec: str = "h264",
    gop: str = "ordered",
    form: str = "ts",
    count: int = 40,
    rate: int = RATE,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> bytes:
    """A video of `count` frames."""
    encoder, gops = ENCODERS[codec]
    return muxed(form, encoder, gops[gop], tuple(pictures(count, width, height)), rate)


def muxed(
    form: str,
    encoder: str,
    options: Mapping[str, str],
    frames: tuple[av.VideoFrame, ...],
    rate: int = RATE,
) -> bytes:
    """A video of these frames."""
    muxer, muxer_options, _ = FORMATS[form]
    # The index of an MP4 can only be moved to its start in a file with a name.
    with tempfile.NamedTemporaryFile() as file:
        _mux(file.name, muxer, muxer_options, encoder, options, frames, rate)
        return file.read()


def _mux(
    path: str,
    muxer: str,
    muxer_options: Mapping[str, str],
    encoder: str,
    options: Mapping[str, str],
    frames: tuple[av.VideoFrame, ...],
    rate: int,
) -> None:
    with av.open(path, "w", format=muxer, options=dict(muxer_options)) as container:
        stream = container.add_stream(encoder, rate=rate, options=dict(options))
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class Chunks:
    """A ByteReader of chunks."""

    def __init__(self, data: bytes, size: int = 1 << 16) -> None:
        self._data, self._size, self._position = data, size, 0
        self.closed = False

    def read(self, size: int, /) -> bytes:
        if self.closed:
            return b""
        end = self._position + min(size, self._size)
        part = self._data[self._position : end]
        self._position += len(part)
        return part

    def close(self) -> None:
        self.closed = True


def upload(
    data: bytes, form: str, rate: float | None = None, limits: SourceLimits = LIMITS
) -> FrameSource:
    """A source for an upload."""
    media_type = FORMATS[form][2] if form in FORMATS else form
    return open_upload(Chunks(data), media_type, Sampling(rate), limits)


def pixels(frame: Frame) -> bytes:
    """All pixels of a frame, or its JPEG."""
    if isinstance(frame.image, EncodedImage):
        return frame.image.data
    assert isinstance(frame.image, DecodedImage)
    return frame.image.frame.to_ndarray().tobytes()


def failure(source: FrameSource) -> tuple[list[Frame], VideoReason | None]:
    """The frames of a source, and why it failed."""
    frames: list[Frame] = []
    try:
        frames.extend(source.frames())
    except SourceError as error:
        return frames, error.reason
    return frames, None
