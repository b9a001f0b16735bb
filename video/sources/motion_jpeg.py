"""Videos of JPEG images: multipart bodies of cameras, and sequences of images.

The images are not decoded. The time of an image in a multipart body is that of its header
`X-Timestamp` or `Content-Timestamp` (Unix, in seconds), or else that of its arrival. Images of a
sequence have no time: they are 1/25 s apart.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from sluice.contract.video import VideoReason
from video.frame import Frame
from video.source import SourceCounts, SourceError
from video.sources.coded_video import ImageAnalysis, StreamFormat
from video.sources.jpeg_sequence import JpegError, JpegSplitter
from video.sources.limits import ByteReader, LimitedReader, SourceLimits
from video.sources.multipart import MultipartError, MultipartParser, Part
from video.sources.sampling import Sampling

MAX_BROKEN_RUN: Final = 100
"""Broken images in a row after which a source gives up."""

_READ_BYTES: Final = 64 << 10
_TIMESTAMPS: Final = ("x-timestamp", "content-timestamp")
_IMAGE_TYPES: Final = ("", "image/jpeg", "image/jpg", "image/pjpeg")


@dataclass(frozen=True, slots=True)
class Image:
    """A JPEG image and its timestamp in seconds. `data` is None if it is broken."""

    data: bytes | None
    timestamp: float | None


class ImageParser(Protocol):
    """Finds images in bytes."""

    def feed(self, chunk: bytes, arrived: float) -> Iterator[Image]:
        """Take bytes that arrived at a Unix time. Raises ValueError."""

    def end(self) -> Iterator[Image]:
        """What is left at the end."""


class MultipartImages:
    """Images of a multipart body. Parts of other types are ignored."""

    def __init__(self, boundary: str) -> None:
        self._parser = MultipartParser(boundary)

    def feed(self, chunk: bytes, arrived: float) -> Iterator[Image]:
        """Take bytes. Raises MultipartError."""
        for part in self._parser.feed(chunk):
            content_type = part.headers.get("content-type", "").partition(";")[0].strip().lower()
            if content_type in _IMAGE_TYPES:
                is_jpeg = part.body.startswith(b"\xff\xd8")
                timestamp = _timestamp(part)
                yield Image(
                    part.body if is_jpeg else None, arrived if timestamp is None else timestamp
                )

    def end(self) -> Iterator[Image]:
        """The part that is left is not complete."""
        return iter(())


class SequenceImages:
    """Images one after another."""

    def __init__(self) -> None:
        self._splitter = JpegSplitter()
        self._broken = 0

    def feed(self, chunk: bytes, arrived: float) -> Iterator[Image]:
        """Take bytes. Raises JpegError."""
        del arrived
        for image in self._splitter.feed(chunk):
            yield from self._broken_images()
            yield Image(image, None)
        yield from self._broken_images()

    def end(self) -> Iterator[Image]:
        """An image that is not complete is broken."""
        if self._splitter.incomplete:
            yield Image(None, None)

    def _broken_images(self) -> Iterator[Image]:
        while self._broken < self._splitter.broken:
            self._broken += 1
            yield Image(None, None)


def _timestamp(part: Part) -> float | None:
    for name in _TIMESTAMPS:
        try:
            seconds = float(part.headers.get(name, ""))
        except ValueError:
            continue
        if math.isfinite(seconds):
            return seconds
    return None


class MotionJpegSource:
    """A video of JPEG images. Implements FrameSource."""

    def __init__(
        self, reader: ByteReader, parser: ImageParser, sampling: Sampling, limits: SourceLimits
    ) -> None:
        self.counts = SourceCounts()
        self._reader = reader
        self._parser = parser
        self._analysis = ImageAnalysis(StreamFormat("mjpeg"), sampling, limits, self.counts)
        self._limits = limits
        self._broken_run = 0
        self._closed = False

    def close(self) -> None:
        """End `frames`. May be called from any thread."""
        self._closed = True
        self._reader.close()

    def frames(self) -> Iterator[Frame]:
        """The sampled frames. Raises SourceError."""
        reader = LimitedReader(self._reader, self._limits, self.counts)
        try:
            while chunk := reader.read(_READ_BYTES):
                yield from self._frames(self._parser.feed(chunk, reader.captured), reader)
                if self._closed:
                    return
            yield from self._frames(self._parser.end(), reader)
        except (MultipartError, JpegError) as error:
            raise SourceError(VideoReason.BROKEN_VIDEO, str(error)) from None
        if self._closed:
            return
        reader.raise_failure()
        if not self.counts.received:
            raise SourceError(VideoReason.NO_VIDEO, "the video has no JPEG image")

    def _frames(self, images: Iterator[Image], reader: LimitedReader) -> Iterator[Frame]:
        for image in images:
            reader.frame_ended()
            if image.data is None:
                self._count_broken()
                continue
            self._broken_run = 0
            frame = self._analysis.sample(
                image.data, image.timestamp, reader.captured, reader.arrived
            )
            if frame is not None:
                yield frame

    def _count_broken(self) -> None:
        self.counts.received += 1
        self.counts.undecodable += 1
        self._broken_run += 1
        if self._broken_run > MAX_BROKEN_RUN:
            message = f"{MAX_BROKEN_RUN} images in a row are no JPEG"
            raise SourceError(VideoReason.BROKEN_VIDEO, message)
