"""Splits a sequence of JPEG images by their structure (ITU-T T.81, annex B). Pure.

A thumbnail in a segment has markers of its own, so that a search for the end marker would cut the
image there.
"""

import re
from collections.abc import Iterator
from typing import Final

from video.sources.limits import MAX_FRAME_BYTES

MAX_MARKERS: Final = 2000
"""Markers of an image outside of its scans. The conversion accepts half as many segments."""

_START: Final = b"\xff\xd8"
_END_MARKER: Final = b"\xff\xd9"
_END, _SCAN = 0xD9, 0xDA
_ALONE: Final = frozenset((0x01, *range(0xD0, 0xD8)))
"""Second bytes of markers without a segment."""

_FILL: Final = re.compile(rb"\xff+")
"""Fill bytes, and the first byte of the marker after them."""

_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the entropy-coded data of a scan."""


class JpegError(ValueError):
    """An image is too large."""


class JpegSplitter:
    """Takes bytes, and gives each image as soon as its last byte is there.

    `broken` counts images whose structure is broken. The splitter goes on at the next image.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        """Position from which the structure of the first image is not read yet. 0: no image."""
        self._in_scan = False
        self._markers = 0
        self.broken = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take bytes. Raises JpegError."""
        self._buffer += chunk
        while True:
            if not self._at and not self._find_start():
                return
            size = self._find_end()
            if size is None:
                if len(self._buffer) > MAX_FRAME_BYTES:
                    raise JpegError(f"an image is larger than {MAX_FRAME_BYTES >> 20} MiB")
                return
            if size:
                yield bytes(memoryview(self._buffer)[:size])
            else:
                self.broken += 1
            del self._buffer[: size or len(_START)]
            self._at = 0

    @property
    def incomplete(self) -> bool:
        """Whether an image has begun."""
        return bool(self._at)

    def _find_start(self) -> bool:
        """Drop what is before the next image."""
        start = self._buffer.find(_START)
        if start < 0:
            del self._buffer[: max(0, len(self._buffer) - 1)]
            return False
        del self._buffer[:start]
        self._at, self._in_scan, self._markers = len(_START), False, 0
        return True

    def _find_end(self) -> int | None:
        """The size of the first image. None if it is not complete, 0 if it is broken."""
        buffer = self._buffer
        while not self._in_scan or self._leave_scan():
            if len(buffer) < self._at + 4:
                # Only the end marker is shorter.
                ended = buffer.startswith(_END_MARKER, self._at)
                return self._at + 2 if ended else None
            if buffer[self._at] != 0xFF:
                return 0
            kind = buffer[self._at + 1]
            if kind == _END:
                return self._at + 2
            size = self._segment_size(kind)
            self._markers += 1
            if not size or self._markers > MAX_MARKERS:
                return 0
            if len(buffer) < self._at + size:
                return None
            self._at += size
            self._in_scan = kind == _SCAN
        return None

    def _segment_size(self, kind: int) -> int:
        """Bytes of a marker and its segment. 0 if it is not allowed here."""
        if kind == 0xFF and (fill := _FILL.match(self._buffer, self._at)):
            return fill.end() - self._at - 1
        if kind in _ALONE:
            return 2
        if kind in (0x00, 0xD8):
            return 0
        length = int.from_bytes(self._buffer[self._at + 2 : self._at + 4])
        return 2 + length if length >= 2 else 0

    def _leave_scan(self) -> bool:
        """Go to the marker after a scan. False if it is not there yet."""
        found = _MARKER.search(self._buffer, self._at)
        if found is None:
            # The last byte can be the first one of a marker.
            self._at = max(self._at, len(self._buffer) - 1)
            return False
        self._at, self._in_scan = found.start(), False
        return True
