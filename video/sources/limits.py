"""Limits of a source, and the reader that enforces those on bytes."""

import time
from dataclasses import dataclass
from typing import Protocol

from sluice.contract.video import VideoReason
from video.source import SourceCounts, SourceError

MAX_BYTES_WITHOUT_FRAME = 32 << 20
"""Bytes after which the next frame must be complete. FFmpeg buffers an unfinished frame."""

MAX_FRAME_BYTES = 16 << 20
"""Bytes of an encoded frame."""


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What a source may deliver. None is no limit.

    `max_seconds` bounds the presentation time of the last frame, and the time since the start.
    `idle_timeout` is the time in seconds without a byte of an upload, or a frame of a camera.
    """

    max_bytes: int | None
    max_seconds: float | None
    max_frames: int | None
    max_pixels: int
    idle_timeout: float


class ByteReader(Protocol):
    """Bytes of a video, for the source thread."""

    def read(self, size: int, /) -> bytes:
        """At least one byte and at most `size`, or no byte at the end.

        Blocks until there is a byte. Raises SourceError if there can be none.
        """

    def close(self) -> None:
        """End a blocked `read`, and make all further reads return no bytes. For any thread."""


class LimitedReader:
    """Counts the bytes of a reader, and ends it at a limit.

    `read` never raises, because FFmpeg calls it. Instead it returns no bytes, and `failure` has the
    error. `arrived` and `captured` are the times of the last bytes: monotonic, and Unix.
    """

    def __init__(self, reader: ByteReader, limits: SourceLimits, counts: SourceCounts) -> None:
        self._reader = reader
        self._limits = limits
        self._counts = counts
        self._frame_began = 0
        self.arrived = time.monotonic()
        self.captured = time.time()
        self._began = self.arrived
        self.failure: SourceError | None = None

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes. No bytes at the end and after a failure."""
        if self.failure is not None:
            return b""
        try:
            chunk = self._reader.read(size)
            self._counts.bytes += len(chunk)
            self.arrived, self.captured = time.monotonic(), time.time()
            self._check()
        except SourceError as error:
            self.failure = error
            return b""
        return chunk

    def frame_ended(self) -> None:
        """Note that a frame is complete."""
        self._frame_began = self._counts.bytes

    def raise_failure(self) -> None:
        """Raise the error that ended the bytes, if one did."""
        if self.failure is not None:
            raise self.failure

    def _check(self) -> None:
        limits, read = self._limits, self._counts.bytes
        if limits.max_bytes is not None and read > limits.max_bytes:
            message = f"the video is larger than {limits.max_bytes} bytes"
            raise SourceError(VideoReason.TOO_MANY_BYTES, message)
        if limits.max_seconds is not None and self.arrived - self._began > limits.max_seconds:
            message = f"the upload takes longer than {limits.max_seconds:g} s"
            raise SourceError(VideoReason.TOO_LONG, message)
        if read - self._frame_began > MAX_BYTES_WITHOUT_FRAME:
            message = f"no frame is complete after {MAX_BYTES_WITHOUT_FRAME >> 20} MiB"
            raise SourceError(VideoReason.BROKEN_VIDEO, message)


def check_frame(limits: SourceLimits, counts: SourceCounts) -> None:
    """Raise SourceError if a source has more frames than it may have."""
    if limits.max_frames is not None and counts.received > limits.max_frames:
        message = f"the video has more than {limits.max_frames} frames"
        raise SourceError(VideoReason.TOO_MANY_FRAMES, message)


def check_time(limits: SourceLimits, seconds: float) -> None:
    """Raise SourceError if a frame is later than a frame may be."""
    if limits.max_seconds is not None and seconds > limits.max_seconds:
        message = f"the video is longer than {limits.max_seconds:g} s"
        raise SourceError(VideoReason.TOO_LONG, message)
