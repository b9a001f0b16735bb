"""Makes MP4 safe and streamable for FFmpeg's demuxer (ISO/IEC 14496-12).

Only the boxes that a video track needs reach the demuxer. All others become free space of the same
size: references to other files, edit lists, encryption, compressed movies, tracks without video.
Tables may not declare more samples than a bound, because the demuxer allocates memory for them.
They may not declare more entries than they have either: the demuxer would read on after their end,
and keep all that follows as entries.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np

from sluice.contract.video import VideoReason
from video.source import SourceError
from video.sources.limits import LimitedReader

MAX_MOVIE_BYTES: Final = 48 << 20
MAX_FRAGMENT_BYTES: Final = 8 << 20
"""Bytes of a `moov` and a `moof` box."""

MAX_SAMPLES: Final = 1_000_000
MAX_FRAGMENTS: Final = 500_000
"""Samples and fragments of a video. The demuxer keeps about 50 bytes for each."""

MAX_CHILDREN: Final = 1000
"""Boxes in a box of the index, and boxes between two boxes with an index."""

_CHUNK: Final = 64 << 10

_CHILDREN: Final = {
    b"moov": frozenset({b"mvhd", b"trak", b"mvex"}),
    b"mvex": frozenset({b"trex"}),
    b"trak": frozenset({b"tkhd", b"mdia"}),
    b"mdia": frozenset({b"mdhd", b"hdlr", b"minf"}),
    b"minf": frozenset({b"vmhd", b"stbl"}),
    b"stbl": frozenset(
        {b"stsd", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stz2", b"stco", b"co64"}
    ),
    b"moof": frozenset({b"mfhd", b"traf"}),
    b"traf": frozenset({b"tfhd", b"tfdt", b"trun"}),
}
"""The boxes that are kept, by the box that contains them."""

_ENTRY_BYTES: Final = {
    b"stts": 8, b"ctts": 8, b"stss": 4, b"stsc": 12, b"stco": 4, b"co64": 8,
}  # fmt: skip
"""Bytes of an entry in the tables that begin with the number of their entries (8.6, 8.7)."""

_ENTRY_CHILDREN: Final = frozenset({b"avcC", b"hvcC", b"colr", b"pasp", b"btrt", b"esds"})
_ENTRY_HEADER: Final = 78
"""Bytes of a VisualSampleEntry before its boxes, without the box header (12.1.3)."""


def _broken(detail: str) -> SourceError:
    return SourceError(VideoReason.BROKEN_VIDEO, f"the MP4 is broken: {detail}")


class BoxReader:
    """A reader of MP4 without the boxes that are not needed. Like its source, it never raises.

    `failure` has the error that ended it.
    """

    def __init__(self, reader: LimitedReader) -> None:
        self._reader = reader
        self._out: deque[memoryview] = deque()
        self._boxes = self._filtered()
        self._has_movie = False
        self._samples = 0
        self._fragments = 0
        self._boxes_since_index = 0
        self.media_first = False
        """Whether the media comes before the index, once the first bytes are read."""
        self.failure: SourceError | None = None

    def start(self) -> None:
        """Read up to the index or the media, whichever is first."""
        while not self._has_movie and not self.media_first and self._fill():
            pass

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes. No bytes at the end and after a failure."""
        if not self._out and (self.failure is not None or not self._fill()):
            return b""
        if self.media_first:
            # The whole video is stored before its first frame can be found.
            self._reader.frame_ended()
        part = self._out.popleft()
        if len(part) > size:
            self._out.appendleft(part[size:])
        return bytes(part[:size])

    def close(self) -> None:
        """Nothing to do: the source is closed by its owner."""

    def _fill(self) -> bool:
        """Append the next bytes. False at the end."""
        try:
            part = next(self._boxes, b"")
        except SourceError as error:
            self.failure = error
            return False
        if part:
            self._out.append(memoryview(part))
        return bool(part)

    def _filtered(self) -> Iterator[bytes]:
        """All bytes of the video, in parts that are not empty. Raises SourceError."""
        while header := self._exactly(8):
            if len(header) < 8:
                return
            size, kind, after = int.from_bytes(header[:4]), header[4:], 8
            if size == 1:
                large = self._exactly(8)
                header, size, after = header + large, int.from_bytes(large), 16
            if size != 0 and size < after:
                raise _broken("a box is smaller than its header")
            left = size - after if size else None
            self._boxes_since_index += 1
            if self._boxes_since_index > MAX_CHILDREN:
                raise _broken(f"more than {MAX_CHILDREN} boxes follow each other without an index")
            if kind in (b"moov", b"moof"):
                yield header + self._index(kind, left)
            elif kind == b"mdat":
                self.media_first = self.media_first or not self._has_movie
                yield header
                yield from self._copied(left)
            else:
                kept = kind in (b"ftyp", b"styp") and left is not None and left <= _CHUNK
                yield header[:4] + (kind if kept else b"free") + header[8:]
                yield from self._copied(left)

    def _index(self, kind: bytes, size: int | None) -> bytes:
        """A `moov` or `moof` box without what is not needed."""
        is_movie = kind == b"moov"
        if not is_movie and not self._has_movie:
            raise _broken("a fragment comes before the index")
        if is_movie and self._has_movie:
            raise _broken("it has two indexes")
        limit = MAX_MOVIE_BYTES if is_movie else MAX_FRAGMENT_BYTES
        if size is None or size > limit:
            raise _broken(f"its index is larger than {limit >> 20} MiB")
        data = bytearray(self._exactly(size))
        if len(data) < size:
            raise _broken("it ends within its index")
        self._has_movie = True
        self._boxes_since_index = 0
        self._fragments += not is_movie
        if self._fragments > MAX_FRAGMENTS:
            message = f"the MP4 has more than {MAX_FRAGMENTS} fragments"
            raise SourceError(VideoReason.TOO_MANY_FRAMES, message)
        self._clean(data, 0, len(data), kind)
        return bytes(data)

    def _exactly(self, size: int) -> bytes:
        parts, left = [], size
        while left and (part := self._reader.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _copied(self, size: int | None) -> Iterator[bytes]:
        """The content of a box; without a size, all that follows. Raises SourceError."""
        while size is None or size > 0:
            part = self._reader.read(_CHUNK if size is None else min(size, _CHUNK))
            if not part:
                if size is not None:
                    raise _broken("it ends within a box")
                return
            if size is not None:
                size -= len(part)
            yield part

    def _clean(self, data: bytearray, start: int, end: int, parent: bytes) -> None:
        """Free the children of a box that are not needed, and check the others."""
        for at, after, stop, kind in _children(data, start, end):
            if kind not in _CHILDREN[parent] or (
                kind == b"trak" and not _is_video(data, after, stop)
            ):
                data[at + 4 : at + 8] = b"free"
            elif kind in _CHILDREN:
                self._clean(data, after, stop, kind)
            elif kind == b"stsd":
                _clean_descriptions(data, after, stop)
            else:
                self._count(data, after, stop, kind)

    def _count(self, data: bytearray, start: int, stop: int, kind: bytes) -> None:
        """Check the numbers of entries and samples that a table declares."""
        if kind in (b"stsz", b"stz2"):
            self._samples += int.from_bytes(data[start + 8 : start + 12])
        elif kind == b"trun":
            self._samples += int.from_bytes(data[start + 4 : start + 8])
        elif kind in _ENTRY_BYTES:
            entries = int.from_bytes(data[start + 4 : start + 8])
            if start + 8 + entries * _ENTRY_BYTES[kind] > stop:
                raise _broken("a table declares more entries than it has")
        if kind in (b"stts", b"ctts"):
            table = np.frombuffer(data, ">u4", 2 * entries, start + 8)
            if int(table[::2].sum(dtype=np.uint64)) > MAX_SAMPLES:
                self._samples = MAX_SAMPLES + 1
        if self._samples > MAX_SAMPLES:
            message = f"the MP4 has more than {MAX_SAMPLES} frames"
            raise SourceError(VideoReason.TOO_MANY_FRAMES, message)
        if kind in (b"stsz", b"stz2") and _bytes_of_sizes(data, start, kind) > stop - start:
            raise _broken("a table declares more entries than it has")


def _bytes_of_sizes(data: bytearray, start: int, kind: bytes) -> int:
    """Bytes that the sizes of samples take, with the fields before them (8.7.3)."""
    count = int.from_bytes(data[start + 8 : start + 12])
    if kind == b"stz2":
        bits = data[start + 7] if len(data) > start + 7 else 0
    else:
        bits = 0 if any(data[start + 4 : start + 8]) else 32  # or all samples have one size
    return 12 + (count * bits + 7) // 8


def _children(data: bytearray, start: int, end: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Each box between two positions: its start, the end of its header, its end, its type."""
    count = 0
    while start + 8 <= end:
        count += 1
        if count > MAX_CHILDREN:
            raise _broken(f"a box contains more than {MAX_CHILDREN} boxes")
        size, after = int.from_bytes(data[start : start + 4]), start + 8
        if size == 1:
            size, after = int.from_bytes(data[start + 8 : start + 16]), start + 16
        elif size == 0:
            size = end - start
        if start + size > end or after > start + size:
            raise _broken("a box is larger than the box that contains it")
        yield start, after, start + size, bytes(data[start + 4 : start + 8])
        start += size


def _is_video(data: bytearray, start: int, end: int) -> bool:
    """Whether the handler of a track is for video (8.4.3)."""
    for _, after, stop, kind in _children(data, start, end):
        if kind == b"mdia":
            return _handler(data, after, stop) == b"vide"
    return False


def _handler(data: bytearray, start: int, end: int) -> bytes:
    """The type of the handler of a media box; empty without one."""
    for _, after, _, kind in _children(data, start, end):
        if kind == b"hdlr":
            return bytes(data[after + 8 : after + 12])
    return b""


def _clean_descriptions(data: bytearray, start: int, end: int) -> None:
    """Free the boxes of sample entries that are not needed."""
    for _, after, stop, _ in _children(data, start + 8, end):
        if after + _ENTRY_HEADER > stop:
            raise _broken("the description of its frames is incomplete")
        for at, _, _, kind in _children(data, after + _ENTRY_HEADER, stop):
            if kind not in _ENTRY_CHILDREN:
                data[at + 4 : at + 8] = b"free"
