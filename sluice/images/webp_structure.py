"""Reads the chunks of a WebP image (RFC 9649 section 2)."""

import struct

from sluice.images.header import (
    BrokenImageError,
    ImageHeader,
    Part,
    TooManySegmentsError,
)
from sluice.images.orientation import Orientation

_FILE_HEADER = 12
_CANVAS_SIZE = 10
_ANIMATED, _ALPHA = 0x02, 0x10
"""Flags of the chunk VP8X."""

_IMAGES = (b"VP8 ", b"VP8L", b"ANMF")
_KEPT = (*_IMAGES, b"ALPH", b"ANIM")

_DECODER_CANVASES = 4
"""Copies of the canvas that exist at the same time: two in libwebp, its output, and Pillow's."""


def read_webp(data: bytes, max_chunks: int) -> ImageHeader:
    """Read the size and the first frame. Raises BrokenImageError and TooManySegmentsError."""
    file_size = 8 + int.from_bytes(data[4:8], "little")
    # A longer file has trailing data, which are not part of the image.
    view = memoryview(data)[: max(file_size, _FILE_HEADER)]
    kept: list[tuple[bytes, memoryview]] = []
    orientation = Orientation()
    complete = False
    position = _FILE_HEADER
    for _ in range(max_chunks):
        if position + 8 > len(view):
            break
        kind, length = struct.unpack_from("<4sI", view, position)
        content = view[position + 8 : position + 8 + length]
        if len(content) < length:
            raise BrokenImageError("the file is truncated")
        if not kept or (kind in _KEPT and not complete):
            kept.append((kind, content))
            complete = kind in _IMAGES
        elif kind == b"EXIF":
            orientation.add_exif(bytes(content))
        elif kind == b"XMP ":
            orientation.add_xmp(data, position + 8, position + 8 + length)
        position += 8 + length + (length & 1)
    else:
        raise TooManySegmentsError
    if not complete:
        raise BrokenImageError("there are no pixels")
    return _header(kept, orientation.value)


def _header(kept: list[tuple[bytes, memoryview]], orientation: int) -> ImageHeader:
    kind, content = kept[0]
    if kind == b"VP8X":
        canvas = _canvas(content)
        # The flags of metadata are removed together with the metadata.
        content = memoryview(bytes((content[0] & (_ANIMATED | _ALPHA),)) + content[1:])
        kept = [(kind, content), *kept[1:]]
        last, image = kept[-1]
        if last != b"ANMF" and _frame_size(last, image) != canvas:
            raise BrokenImageError("the image has another size than its canvas")
    else:
        canvas = _frame_size(kind, content)
    width, height = canvas
    if 0 in canvas:
        raise BrokenImageError("the header is not valid")
    return ImageHeader(
        "image/webp",
        width,
        height,
        orientation,
        _DECODER_CANVASES * 4 * width * height,
        _file(kept),
    )


def _canvas(content: memoryview) -> tuple[int, int]:
    if len(content) != _CANVAS_SIZE:
        raise BrokenImageError("the header is not valid")
    return 1 + _uint24(content, 4), 1 + _uint24(content, 7)


def _frame_size(kind: bytes, content: memoryview) -> tuple[int, int]:
    if kind == b"VP8 " and len(content) >= 10 and bytes(content[3:6]) == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", content, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(content) >= 5 and content[0] == 0x2F:
        (bits,) = struct.unpack_from("<I", content, 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise BrokenImageError("the header is not valid")


def _file(chunks: list[tuple[bytes, memoryview]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for kind, content in chunks:
        parts.append(struct.pack("<4sI", kind, len(content)))
        parts.append(content)
        parts.append(bytes(len(content) & 1))
    return (struct.pack("<4sI4s", b"RIFF", 4 + sum(map(len, parts)), b"WEBP"), *parts)


def _uint24(content: memoryview, offset: int) -> int:
    return int.from_bytes(content[offset : offset + 3], "little")
