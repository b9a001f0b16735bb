"""Reads the segments of a JPEG image (ITU-T T.81 annex B).

Only the processes that are common on the web are accepted: baseline, extended sequential and
progressive, with Huffman coding. libjpeg only warns of some oddities in headers, which real cameras
write. They are removed here, so that each warning of the decoder is about the coded data.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import numpy as np

from sluice.images.header import (
    BrokenImageError,
    ImageHeader,
    Part,
    TooManySegmentsError,
)
from sluice.images.orientation import Orientation

_START = b"\xff\xd8"
_FIRST_SCAN = b"\xff\xda"
_SEGMENT = struct.Struct(">BBH")
_EOI, _SOS = 0xD9, 0xDA
_TABLES = (0xC4, 0xDB, 0xDD)
"""Huffman tables, quantization tables and the restart interval."""

_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_METADATA = frozenset((*range(0xE0, 0xF0), 0xFE))
"""Application segments and comments."""

_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
"""The segment APP0 of a JFIF file. It determines the color space. Its version, of which libjpeg may
warn, and its resolution do not matter."""

_JFIF_NAME = b"JFIF\0"
_ADOBE_NAME = b"Adobe"
_ADOBE_SIZE = 12
_YCC = 1
"""The segment APP14 of Adobe. Byte 12 determines the color space: 1 for YCbCr."""

_COLORS = 3

_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD8)))
"""Second bytes of markers that have no segment. Before a scan they have no meaning."""

_SEQUENTIAL_PARAMETERS = b"\0\x3f\0"
"""The end of a scan header that is not progressive (table B.3). Decoders ignore it, and libjpeg
warns of other values, which some phones write."""

_FACTORS = frozenset(range(1, 5))
"""Sampling factors that section B.2.2 allows."""

_SUBSAMPLINGS = frozenset(((1, 1), (2, 1), (1, 2), (2, 2), (4, 1)))
"""Sampling factors of the luminance that simplejpeg supports, if those of the colors are 1."""

_BEGINS_SEGMENT = np.ones(256, bool)
"""Second bytes of markers that begin a segment, or end the image. The others are stuffed and fill
bytes, TEM and restart markers (table B.1)."""
_BEGINS_SEGMENT[[0x00, 0x01, *range(0xD0, 0xD8), 0xFF]] = False

_SEGMENT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""The same as an expression, which is faster for a small image."""

_WINDOW = 1 << 18
"""Bytes of coded data that are searched at once, so that the search takes little memory."""

_SMALL_IMAGE = 64 << 10
"""Bytes of an image that is searched with the expression, which holds the interpreter lock."""

_MAX_CACHED_HEAD = 2048
"""Bytes of a head that is cached, so that the cache takes little memory. A head without metadata
has about 600 bytes."""

_BLOCK = 8
"""Pixels on each side of a block of coefficients."""

_COEFFICIENT = 2
"""Bytes of a coefficient."""


_MIN_SCAN_HEADER = 10
"""Bytes of a scan header with one component, with its marker."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The frame header (section B.2.2). `samplings` are horizontal and vertical factors."""

    marker: int
    width: int
    height: int
    samplings: tuple[tuple[int, int], ...]

    @property
    def progressive(self) -> bool:
        """Whether each scan has a part of the coefficients."""
        return self.marker == _PROGRESSIVE

    @property
    def common(self) -> bool:
        """Whether it is gray, or has three colors and a common subsampling. CMYK has four."""
        luminance, *colors = self.samplings
        return not colors or (luminance in _SUBSAMPLINGS and colors == [(1, 1)] * 2)


@dataclass(frozen=True, slots=True)
class _Head:
    """The segments before the coded data. The header of the first scan begins at `end`.

    `decoded_size`, `coefficients_size` and `scalable` are those of `ImageHeader`. `block_pixels`
    are the pixels of whole blocks.
    """

    frame: _Frame
    parts: tuple[Part, ...]
    """The segments that a decoder needs."""
    orientation: int
    end: int
    scalable: bool
    decoded_size: int
    coefficients_size: int
    block_pixels: int


@dataclass(slots=True)
class _Scans:
    """The scans of an image, which end at `end`. `count` may be larger than their number."""

    start: int
    header_ends: list[int]
    count: int
    end: int


class _Metadata:
    """The application segments that determine the orientation and the color space."""

    __slots__ = ("_adobe", "_jfif", "orientation")

    def __init__(self) -> None:
        self.orientation = Orientation()
        self._jfif = False
        self._adobe = b""

    def add(self, marker: int, data: bytes, start: int, end: int) -> None:
        """Read the content of a segment."""
        if marker == _APP1 and data.startswith(_EXIF, start):
            self.orientation.add_exif(data[start:end])
        elif marker == _APP1 and data.startswith(_XMP, start):
            self.orientation.add_xmp(data, start, end)
        elif marker == _APP0 and data.startswith(_JFIF_NAME, start):
            self._jfif = True
        elif marker == _APP14 and data.startswith(_ADOBE_NAME, start):
            content = data[start : min(start + _ADOBE_SIZE, end)]
            # libjpeg ignores a shorter segment.
            self._adobe = content if len(content) == _ADOBE_SIZE else self._adobe

    def parts(self, frame: _Frame) -> Iterator[Part]:
        """The segments that a decoder needs. Their unknown values become those that it assumes."""
        if self._jfif:
            yield _JFIF
        if self._adobe:
            content = self._adobe
            if len(frame.samplings) == _COLORS and content[-1]:
                content = content[:-1] + bytes((_YCC,))
            yield _SEGMENT.pack(0xFF, _APP14, 2 + len(content)) + content


def read_jpeg(data: bytes, max_segments: int) -> ImageHeader:
    """Read the segments up to the first scan, and count the scans.

    Raises BrokenImageError and TooManySegmentsError.
    """
    head = _head(data, max_segments)
    scans = _read_scans(data, head.end, max_segments)
    frame = head.frame
    return ImageHeader(
        "image/jpeg",
        frame.width,
        frame.height,
        head.orientation,
        head.decoded_size,
        (*head.parts, *_scan_parts(memoryview(data), frame, scans)),
        head.scalable,
        head.coefficients_size,
        scans.count * head.block_pixels,
    )


def _head(data: bytes, max_segments: int) -> _Head:
    """Read the segments before the coded data, or find them in the cache.

    The images of one client often have equal heads.
    """
    scan = data.find(_FIRST_SCAN, 0, _MAX_CACHED_HEAD)
    if scan >= 0:
        end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
        head = _cached_head(data[: min(end, _MAX_CACHED_HEAD)], max_segments)
        if head is not None:
            return head
    return _read_head(data, max_segments)


@lru_cache(maxsize=256)
def _cached_head(data: bytes, max_segments: int) -> _Head | None:
    """The head of an image that begins with these bytes; None if more bytes are necessary.

    What looks like the first scan may be a part of a segment.
    """
    try:
        head = _read_head(data, max_segments)
    except BrokenImageError:
        return None
    return replace(head, parts=(b"".join(head.parts),))


def _read_head(data: bytes, max_segments: int) -> _Head:
    view = memoryview(data)
    parts: list[Part] = [_START]
    frame: _Frame | None = None
    metadata = _Metadata()
    for marker, position, end in _segments(data, max_segments):
        content = position + 4
        if marker == _SOS:
            if frame is None or content == end:
                raise BrokenImageError("the first scan is not valid")
            parts += metadata.parts(frame)
            several_scans = frame.progressive or data[content] < len(frame.samplings)
            orientation = metadata.orientation.value
            return _complete_head(frame, parts, orientation, position, several_scans=several_scans)
        if marker in _FRAMES:
            if frame is not None:
                raise BrokenImageError("there are two frame headers")
            frame = _frame(marker, data[content:end])
        elif marker in _METADATA:
            metadata.add(marker, data, content, end)
            continue
        elif marker not in _TABLES:
            raise BrokenImageError(f"the marker {marker:#04x} is not accepted")
        parts.append(view[position:end])
    raise TooManySegmentsError


def _segments(data: bytes, max_segments: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the coded data.

    Bytes that do not begin a segment are skipped, as libjpeg does.
    """
    position = len(_START)
    for _ in range(max_segments):
        position = data.find(0xFF, position)
        if position < 0 or position + 4 > len(data):
            raise BrokenImageError("a segment is not valid")
        _, marker, length = _SEGMENT.unpack_from(data, position)
        # Fill bytes (section B.1.1.2) and others count, so that many of them cannot take long.
        if marker == 0xFF:
            position += 1
            continue
        if marker in _ALONE:
            position += 2
            continue
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise BrokenImageError("a segment is not valid")
        yield marker, position, end
        position = end


def _read_scans(data: bytes, start: int, max_segments: int) -> _Scans:
    """Find the scans and the end of the image. A second image or a video may follow.

    In coded data, only markers without a segment occur before the end of the scan. A scan header
    counts even in another segment, where decoders ignore it.
    """
    headers: list[int] = []
    count = markers = 0
    segment_end = start
    for marker in _segment_markers(data, start):
        markers += 1
        # libjpeg-turbo stores the content of some segments.
        if markers > max_segments:
            raise TooManySegmentsError
        code = data[marker + 1]
        count += code == _SOS
        if marker < segment_end:
            continue
        if code == _EOI:
            return _Scans(start, headers, count, marker + 2)
        segment_end = marker + 2 + int.from_bytes(data[marker + 2 : marker + 4], "big")
        if code == _SOS and segment_end - marker >= _MIN_SCAN_HEADER:
            headers.append(segment_end)
    return _Scans(start, headers, count, len(data))


def _segment_markers(data: bytes, start: int) -> Iterator[int]:
    """The positions of markers that begin a segment or end the image, from `start`."""
    if len(data) <= _SMALL_IMAGE:
        for found in _SEGMENT_MARKER.finditer(data, start):
            yield found.start()
        return
    array = np.frombuffer(data, np.uint8)
    for window in range(start, len(data) - 1, _WINDOW):
        part = array[window : window + _WINDOW + 1]
        markers = (part[:-1] == 0xFF).nonzero()[0]
        segments = _BEGINS_SEGMENT.take(part[1:].take(markers))
        for offset in markers[segments].tolist():
            yield window + offset


def _scan_parts(view: memoryview, frame: _Frame, scans: _Scans) -> Iterator[Part]:
    """The scans, with the header parameters of a sequential frame."""
    start = scans.start
    if not frame.progressive:
        for header_end in scans.header_ends:
            if header_end > scans.end:
                break
            yield view[start : header_end - len(_SEQUENTIAL_PARAMETERS)]
            yield _SEQUENTIAL_PARAMETERS
            start = header_end
    yield view[start : scans.end]


def _frame(marker: int, content: bytes) -> _Frame:
    if len(content) < 6 or len(content) != 6 + 3 * content[5]:
        raise BrokenImageError("the frame header is not valid")
    precision, height, width, components = struct.unpack_from(">BHHB", content)
    samplings = tuple([(sampling >> 4, sampling & 15) for sampling in content[7::3]])
    # A height of 0 is in a later segment (DNL), which decoders do not support.
    if precision != 8 or 0 in (width, height) or components not in (1, 3, 4):
        raise BrokenImageError("the frame header is not valid")
    if not _FACTORS.issuperset(chain.from_iterable(samplings)):
        raise BrokenImageError("the frame header is not valid")
    return _Frame(marker, width, height, samplings)


def _complete_head(
    frame: _Frame, parts: list[Part], orientation: int, end: int, *, several_scans: bool
) -> _Head:
    """For several scans, a decoder stores the coefficients of the whole image."""
    coefficients, pixels = _block_sizes(frame)
    return _Head(
        frame,
        tuple(parts),
        orientation,
        end,
        frame.common,
        frame.width * frame.height * (1 if len(frame.samplings) == 1 else 4),
        _COEFFICIENT * coefficients if several_scans else 0,
        pixels,
    )


def _block_sizes(frame: _Frame) -> tuple[int, int]:
    """Number of coefficients, and of the pixels of whole blocks."""
    widest = max(horizontal for horizontal, _ in frame.samplings)
    highest = max(vertical for _, vertical in frame.samplings)
    # Units of one block for each sampling factor (section A.2).
    columns = -(-frame.width // (_BLOCK * widest))
    rows = -(-frame.height // (_BLOCK * highest))
    blocks = columns * rows * sum(h * v for h, v in frame.samplings)
    return blocks * _BLOCK**2, columns * rows * widest * highest * _BLOCK**2
