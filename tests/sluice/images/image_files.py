"""Builds image files whose parts contradict each other, or are many."""

import struct
import zlib
from collections.abc import Iterator

from tests.sluice.images.pictures import encoded, gradient_image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WIDTH, HEIGHT = 16, 12
"""Size of the images that are modified."""

JPEG = encoded(gradient_image(WIDTH, HEIGHT), "JPEG")
PROGRESSIVE = encoded(gradient_image(WIDTH, HEIGHT), "JPEG", progressive=True)
CMYK = encoded(gradient_image(WIDTH, HEIGHT).convert("CMYK"), "JPEG")
PNG = encoded(gradient_image(WIDTH, HEIGHT), "PNG")
WEBP = encoded(gradient_image(WIDTH, HEIGHT), "WEBP")


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def ihdr(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    """A PNG header."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def png(*chunks: bytes) -> bytes:
    """A PNG file with these chunks and the end."""
    return PNG_SIGNATURE + b"".join(chunks) + chunk(b"IEND", b"")


def png_chunks(data: bytes = PNG) -> Iterator[bytes]:
    """The chunks of a PNG file, without the end."""
    position = len(PNG_SIGNATURE)
    while data[position + 4 : position + 8] != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        yield data[position:end]
        position = end


def solid_png(width: int, height: int, color: int = 2, *extra: bytes) -> bytes:
    """A PNG of one color, with `extra` chunks before the pixels."""
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[color])
    compressor = zlib.compressobj(1)
    stream = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    return png(ihdr(width, height, 8, color), *extra, chunk(b"IDAT", stream))


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def frame_header(marker: int, width: int, height: int) -> bytes:
    """A JPEG frame header with three components."""
    samplings = b"\x01\x11\x00\x02\x11\x01\x03\x11\x01"
    return segment(marker, struct.pack(">BHHB", 8, height, width, 3) + samplings)


def with_segments(segments: bytes, data: bytes = JPEG) -> bytes:
    """A JPEG with these segments before the others."""
    return data[:2] + segments + data[2:]


def with_frame_header(header: bytes, data: bytes = JPEG) -> bytes:
    """A JPEG with another frame header."""
    start = data.index(b"\xff\xc0")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + header + data[end:]


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a WebP file."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) & 1)


def webp(*chunks: bytes) -> bytes:
    """A WebP file with these chunks."""
    content = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def vp8x(width: int, height: int, flags: int = 0) -> bytes:
    """The header of an extended WebP file."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sizes)


def webp_image(width: int = WIDTH, height: int = HEIGHT, **options: object) -> bytes:
    """The chunk with the pixels of a WebP file."""
    return encoded(gradient_image(width, height), "WEBP", **options)[12:]


def animation_frame(x: int, y: int, width: int, height: int, image: bytes) -> bytes:
    """A frame of an animated WebP file."""
    sizes = b"".join(v.to_bytes(3, "little") for v in (x // 2, y // 2, width - 1, height - 1))
    return riff_chunk(b"ANMF", sizes + bytes(4) + image)


ANIMATED = 0x02
ANIM = riff_chunk(b"ANIM", bytes(6))
