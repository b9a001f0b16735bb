"""A video file that the user names, for the command line."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from sluice.contract.video import VideoReason
from video.frame import Frame
from video.source import FrameSource, SourceCounts, SourceError
from video.sources.limits import SourceLimits
from video.sources.sampling import Sampling
from video.sources.upload import open_upload

_MEDIA_TYPES: Final = {
    ".264": "video/h264",
    ".h264": "video/h264",
    ".265": "video/h265",
    ".h265": "video/h265",
    ".hevc": "video/h265",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".m4v": "video/mp4",
    ".mjpeg": "video/mjpeg",
    ".mjpg": "video/mjpeg",
    ".mp4": "video/mp4",
    ".ts": "video/mp2t",
}
"""Media types by suffix."""

_SYNC: Final = 0x47
_PACKET: Final = 188
"""First byte and size of a packet of an MPEG transport stream."""


def media_type_of(path: Path) -> str:
    """The media type of a video file, by its first bytes or its suffix. Raises SourceError."""
    try:
        with path.open("rb") as file:
            head = file.read(2 * _PACKET)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise SourceError(VideoReason.STREAM_NOT_FOUND, message) from None
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return "video/mp4"
    if head.startswith(b"\xff\xd8"):
        return "video/mjpeg"
    if len(head) > _PACKET and head[0] == head[_PACKET] == _SYNC:
        return "video/mp2t"
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        message = f"{path} is no video: the suffix must be one of {', '.join(_MEDIA_TYPES)}"
        raise SourceError(VideoReason.UNSUPPORTED_FORMAT, message)
    return media_type


def open_file(
    path: Path, sampling: Sampling, limits: SourceLimits, *, paced: bool = False, loops: int = 1
) -> FrameSource:
    """The frames of a file. Raises SourceError.

    With `paced`, each frame comes when a camera would send it. The file is shown `loops` times; 0
    is without end.
    """
    media_type = media_type_of(path)
    return FileSource(path, media_type, sampling, limits, paced=paced, loops=loops)


class _FileReader:
    """A file as a ByteReader."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._closed = False

    def read(self, size: int, /) -> bytes:
        return b"" if self._closed else self._file.read(size)

    def close(self) -> None:
        self._closed = True


class FileSource:
    """The frames of a file. Implements FrameSource."""

    def __init__(
        self,
        path: Path,
        media_type: str,
        sampling: Sampling,
        limits: SourceLimits,
        *,
        paced: bool,
        loops: int,
    ) -> None:
        self.counts = SourceCounts()
        self._path = path
        self._media_type = media_type
        self._sampling = sampling
        self._limits = limits
        self._paced = paced
        self._loops = loops
        self._current: FrameSource | None = None
        self._closed = False

    def close(self) -> None:
        """End `frames` soon. May be called from any thread."""
        self._closed = True
        if self._current is not None:
            self._current.close()

    def frames(self) -> Iterator[Frame]:
        """The sampled frames. Numbers and times go on when the film starts again."""
        began, offset, shown, end = time.monotonic(), 0.0, 0, 0.0
        while not self._closed and (self._loops == 0 or shown < self._loops):
            shown += 1
            base = replace(self.counts)
            for frame, interval in self._one_showing(base):
                moved = replace(
                    frame, number=base.received + frame.number, time=offset + frame.time
                )
                end = moved.time + interval
                if self._paced:
                    yield self._at_its_time(moved, began)
                else:
                    yield moved
                if self._closed:
                    return
            offset = end

    def _one_showing(self, base: SourceCounts) -> Iterator[tuple[Frame, float]]:
        """The frames of the film, with the time between two frames."""
        with self._path.open("rb") as file:
            reader = _FileReader(file)
            source = open_upload(reader, self._media_type, self._sampling, self._limits)
            self._current = source
            last, interval = 0.0, 0.0
            for frame in source.frames():
                interval = frame.time - last or interval
                last = frame.time
                self._count(base, source.counts)
                yield frame, interval
            self._count(base, source.counts)

    def _count(self, base: SourceCounts, counts: SourceCounts) -> None:
        """Add the counts of this showing to those of the showings before it."""
        self.counts.received = base.received + counts.received
        self.counts.skipped = base.skipped + counts.skipped
        self.counts.undecodable = base.undecodable + counts.undecodable
        self.counts.bytes = base.bytes + counts.bytes

    def _at_its_time(self, frame: Frame, began: float) -> Frame:
        """Wait until a camera would send the frame."""
        while not self._closed and (left := began + frame.time - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
        return replace(frame, captured=time.time(), arrived=time.monotonic())
