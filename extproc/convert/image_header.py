"""Reads a picture's size from its first bytes: a bomb is refused before a decoder sees it."""

import io
import struct
from dataclasses import dataclass

import simplejpeg
from PIL import Image

_ENOUGH = 30


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Size in pixels, and how colors are stored, by libjpeg-turbo's names."""

    width: int
    height: int
    colors: str


def image_size(data: bytes, kind: str) -> tuple[int, int] | None:
    """Width and height of a picture of the media type `kind`; None if damaged."""
    if kind == "image/png":
        return png_size(data)
    if kind == "image/webp":
        return webp_size(data)
    return _jpeg_size(data)


def jpeg_header(data: bytes) -> JpegHeader | None:
    """None where libjpeg-turbo cannot tell, of a damaged file or a rare subsampling."""
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return JpegHeader(width, height, colors)


def png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from IHDR (PNG third edition, section 11.2.1); None if damaged."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas (RFC 9649 section 2); None if damaged."""
    if len(data) < _ENOUGH:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + _uint24(data, 24), 1 + _uint24(data, 27)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    header = jpeg_header(data)
    if header is not None:
        return header.width, header.height
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.size
    # Pillow's parser raises whatever a damaged byte makes of it: struct.error, KeyError, ...
    except Exception:
        return None


def _uint24(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 3], "little")
