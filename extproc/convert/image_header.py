"""Reads the type and size of an image from its header, before a decoder allocates memory."""

import io
import struct
from dataclasses import dataclass

import simplejpeg
from PIL import Image

_WEBP_HEADER = 30
"""Bytes at the start of a WebP file that contain the size, in each of the three formats."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Size in pixels, and libjpeg-turbo's name of the color space."""

    width: int
    height: int
    color_space: str


def image_type(data: bytes) -> str | None:
    """Media type of an image, from its first bytes (WHATWG MIME Sniffing section 6.1), or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:14] == b"WEBPVP":
        return "image/webp"
    return None


def image_size(data: bytes, media_type: str) -> tuple[int, int] | None:
    """Width and height of an image of this media type; None if the header is not valid."""
    if media_type == "image/png":
        return _png_size(data)
    if media_type == "image/webp":
        return _webp_size(data)
    return _jpeg_size(data)


def jpeg_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG; None if libjpeg-turbo finds it invalid or lacks its subsampling."""
    try:
        height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return JpegHeader(width, height, color_space)


def _png_size(data: bytes) -> tuple[int, int] | None:
    # IHDR: PNG third edition, section 11.2.1.
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _webp_size(data: bytes) -> tuple[int, int] | None:
    # Size of the canvas: RFC 9649 section 2.
    if len(data) < _WEBP_HEADER:
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + _uint24(data, 24), 1 + _uint24(data, 27)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    header = jpeg_header(data)
    if header is not None:
        return header.width, header.height
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.size
    # Pillow's parser raises various exceptions for damaged data: struct.error, KeyError, ...
    except Exception:
        return None


def _uint24(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 3], "little")
