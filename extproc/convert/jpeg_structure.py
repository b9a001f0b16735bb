"""Reads the segments of a JPEG image (ITU-T T.81 annex B).

Only the processes that are common on the web are accepted: baseline, extended sequential and
progressive, with Huffman coding.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from extproc.convert.exif import exif_orientation
from extproc.convert.image_header import (
    BrokenImageError,
    ImageHeader,
    Part,
    TooManySegmentsError,
)

_START = b"\xff\xd8"
_SEGMENT = struct.Struct(">BBH")
_EOI, _SOS = 0xD9, 0xDA
_TABLES = (0xC4, 0xDB, 0xDD)
"""Huffman tables, quantization tables and the restart interval."""

_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_EXIF = b"Exif\0\0"
_METADATA = frozenset((*range(0xE0, 0xF0), 0xFE))
"""Application segments and comments."""

_KEPT_METADATA = {_APP0: b"JFIF", _APP14: b"Adobe"}
"""Application segments that determine the color space, and how they begin."""

_FACTORS = frozenset(range(1, 5))
"""Sampling factors that section B.2.2 allows."""

_SUBSAMPLINGS = frozenset(((1, 1), (2, 1), (1, 2), (2, 2), (4, 1)))
"""Sampling factors of the luminance that simplejpeg supports, if those of the colors are 1."""

_BEGINS_SEGMENT = np.ones(256, bool)
"""Second bytes of markers that begin a segment, or end the image. The others are stuffed and fill
bytes, TEM and restart markers (table B.1)."""
_BEGINS_SEGMENT[[0x00, 0x01, *range(0xD0, 0xD8), 0xFF]] = False

_WINDOW = 1 << 18
"""Bytes of coded data that are searched at once, so that the search takes little memory."""

_BLOCK = 8
"""Pixels on each side of a block of coefficients."""

_COEFFICIENT = 2
"""Bytes of a coefficient."""


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


def read_jpeg(data: bytes, max_segments: int) -> ImageHeader:
    """Read the segments up to the first scan, and count the scans.

    Raises BrokenImageError and TooManySegmentsError.
    """
    view = memoryview(data)
    parts: list[Part] = [_START]
    frame: _Frame | None = None
    orientation = 0
    for marker, position, end in _segments(data, max_segments):
        content = position + 4
        if marker == _SOS:
            if frame is None or content == end:
                raise BrokenImageError("the first scan is not valid")
            scans_end, scans = _read_scans(data, position, max_segments)
            parts.append(view[position:scans_end])
            buffered = frame.progressive or data[content] < len(frame.samplings)
            return _header(frame, parts, scans, buffered, orientation or 1)
        if marker in _FRAMES:
            if frame is not None:
                raise BrokenImageError("there are two frame headers")
            frame = _frame(marker, data[content:end])
        elif marker in _METADATA:
            if marker == _APP1 and not orientation and data.startswith(_EXIF, content):
                orientation = exif_orientation(data[content:end])
            prefix = _KEPT_METADATA.get(marker)
            if prefix is None or not data.startswith(prefix, content):
                continue
        elif marker not in _TABLES:
            raise BrokenImageError(f"the marker {marker:#04x} is not accepted")
        parts.append(view[position:end])
    raise TooManySegmentsError


def _segments(data: bytes, max_segments: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the coded data."""
    position = len(_START)
    for _ in range(max_segments):
        if position + 4 > len(data):
            raise BrokenImageError("a segment is not valid")
        start, marker, length = _SEGMENT.unpack_from(data, position)
        if start == marker == 0xFF:
            # A fill byte (section B.1.1.2). It counts, so that many of them cannot take long.
            position += 1
            continue
        end = position + 2 + length
        if start != 0xFF or length < 2 or end > len(data):
            raise BrokenImageError("a segment is not valid")
        yield marker, position, end
        position = end


def _read_scans(data: bytes, start: int, max_segments: int) -> tuple[int, int]:
    """The end of the image, and the number of its scans. A second image or a video may follow.

    In coded data, only markers without a segment occur before the end of the scan. A scan header
    counts even in another segment, where decoders ignore it.
    """
    array = np.frombuffer(data, np.uint8)
    scans = markers = 0
    segment_end = start
    for window in range(start, len(data) - 1, _WINDOW):
        part = array[window : window + _WINDOW + 1]
        found = (part[:-1] == 0xFF).nonzero()[0]
        segments = _BEGINS_SEGMENT.take(part[1:].take(found))
        for offset in found[segments].tolist():
            marker = window + offset
            markers += 1
            # libjpeg-turbo stores the content of some segments.
            if markers > max_segments:
                raise TooManySegmentsError
            code = data[marker + 1]
            scans += code == _SOS
            if marker < segment_end:
                continue
            if code == _EOI:
                return marker + 2, scans
            segment_end = marker + 2 + int.from_bytes(data[marker + 2 : marker + 4], "big")
    return len(data), scans


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


def _header(
    frame: _Frame, parts: list[Part], scans: int, buffered: bool, orientation: int
) -> ImageHeader:
    """`buffered`: the decoder stores the coefficients of the whole image, for further scans."""
    coefficients, pixels = _block_sizes(frame)
    return ImageHeader(
        "image/jpeg",
        frame.width,
        frame.height,
        orientation,
        frame.width * frame.height * (1 if len(frame.samplings) == 1 else 4),
        tuple(parts),
        frame.common,
        _COEFFICIENT * coefficients if buffered else 0,
        scans * pixels,
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
