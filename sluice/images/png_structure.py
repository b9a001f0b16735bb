"""Reads the chunks of a PNG image (PNG third edition, section 5)."""

import struct
import zlib
from collections.abc import Iterator

from sluice.images.header import (
    BrokenImageError,
    ImageHeader,
    Part,
    TooManySegmentsError,
)
from sluice.images.orientation import Orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER_SIZE = 13
_MAX_SIZES = {b"PLTE": 3 * 256, b"tRNS": 256}
"""Maximum size of the chunks that a decoder needs in addition to the header and the pixels."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each color type."""

_INDEXED, _GRAY, _RGB = 3, 0, 2
_METADATA = (b"eXIf", b"iTXt")
"""Chunks that may have the orientation."""

_XMP = b"XML:com.adobe.xmp\0\0"
"""Begin of a text that is an XMP packet without compression (XMP part 3, section 1.1.5)."""

_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_NO_CHECKSUM = bytes(4)
"""Decoders do not read the checksum of IDAT chunks. The stream in them has its own."""

_ROW_POINTER = 8
"""Bytes that Pillow needs for each row of an image, in addition to the pixels."""


def read_png(data: bytes, max_chunks: int) -> ImageHeader:
    """Read the header, the palette, the first image and the orientation, which may follow it.

    Frames of an animation are ignored.

    Raises BrokenImageError and TooManySegmentsError.
    """
    view = memoryview(data)
    kept: dict[bytes, memoryview] = {}
    stream: list[memoryview] = []
    orientation = Orientation()
    complete = False
    for kind, start, end in _chunks(data, max_chunks):
        complete = bool(stream) and (complete or kind != b"IDAT")
        truncated = end + 4 > len(data)
        if complete and (truncated or kind == b"IEND"):
            break
        if truncated:
            raise BrokenImageError("the file is truncated")
        if kept and kind in _METADATA:
            _add_metadata(orientation, kind, data, start, end)
        elif complete:
            continue
        elif kind == b"IDAT":
            stream.append(view[start:end])
        elif not kept or kind in _MAX_SIZES:
            _check_chunk(kind, end - start, kept)
            kept[kind] = view[start - 8 : end + 4]
        elif kind == b"IHDR":
            raise BrokenImageError("there are two headers")
    if not stream:
        raise BrokenImageError("there are no pixels")
    return _header(kept, stream, orientation.value)


def _add_metadata(orientation: Orientation, kind: bytes, data: bytes, start: int, end: int) -> None:
    if kind == b"eXIf":
        orientation.add_exif(data[start:end])
    elif data.startswith(_XMP, start, end):
        orientation.add_xmp(data, start, end)


def _chunks(data: bytes, max_chunks: int) -> Iterator[tuple[bytes, int, int]]:
    """Type of each chunk, and start and end of its content. The last chunk may be truncated."""
    position = len(SIGNATURE)
    for _ in range(max_chunks):
        if position + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        yield kind, start, end
        position = end + 4
    raise TooManySegmentsError


def _check_chunk(kind: bytes, length: int, kept: dict[bytes, memoryview]) -> None:
    if not kept:
        if kind != b"IHDR" or length != _HEADER_SIZE:
            raise BrokenImageError("the header is not valid")
    elif kind in kept or length > _MAX_SIZES[kind]:
        raise BrokenImageError(f"the chunk {kind.decode()} is not valid")


def _header(
    kept: dict[bytes, memoryview], stream: list[memoryview], orientation: int
) -> ImageHeader:
    width, height, depth, color = struct.unpack_from(">IIBB", kept[b"IHDR"], 8)
    if 0 in (width, height) or color not in _CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise BrokenImageError("the header is not valid")
    stream_size = sum(map(len, stream))
    if stream_size >= 1 << 31:
        raise BrokenImageError("the file is too large")
    transparency = _transparency(kept.pop(b"tRNS", None), depth, color)
    row_size = (width * depth * _CHANNELS[color] + 7) // 8
    parts: tuple[Part, ...] = (
        SIGNATURE,
        *kept.values(),
        transparency,
        struct.pack(">I4s", stream_size, b"IDAT"),
        *stream,
        _NO_CHECKSUM,
        _END,
    )
    return ImageHeader(
        "image/png",
        width,
        height,
        orientation,
        # The decoder holds two rows in addition to the image.
        height * (width * _pixel_size(color, depth) + _ROW_POINTER) + 2 * row_size,
        parts,
    )


def _transparency(chunk: memoryview | None, depth: int, color: int) -> bytes:
    """The chunk tRNS with the sample values that Pillow compares with; empty if there is none.

    Pillow scales the samples of gray images to 8 bits, and keeps the upper byte of 16-bit colors,
    but does not change tRNS. A chunk that is not valid is ignored, because it is ancillary
    (section 13.2).
    """
    if chunk is None or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return b""
    if color == _INDEXED:
        return bytes(chunk)
    samples = _CHANNELS[color]
    if color not in (_GRAY, _RGB) or len(chunk) - 12 != 2 * samples:
        return b""
    largest = (1 << depth) - 1
    values = [value & largest for value in struct.unpack_from(f">{samples}H", chunk, 8)]
    if color == _RGB and depth == 16:
        values = [value >> 8 for value in values]
    elif color == _GRAY and depth in (2, 4):
        values = [value * 255 // largest for value in values]
    content = struct.pack(f">4s{samples}H", b"tRNS", *values)
    return struct.pack(">I", 2 * samples) + content + struct.pack(">I", zlib.crc32(content))


def _pixel_size(color: int, depth: int) -> int:
    """Bytes of a pixel in Pillow's memory."""
    if color in (_GRAY, _INDEXED):
        return 2 if depth == 16 else 1
    return 4
