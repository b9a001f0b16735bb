"""Checks JPEG frames before they are decoded, or sent on."""

from sluice.contract.video import VideoReason
from sluice.images.header import BrokenImageError, ImageHeader, TooManySegmentsError
from sluice.images.jpeg_structure import read_jpeg
from video.conversion.converted import FrameError, broken_frame

_JPEG_START = b"\xff\xd8\xff"

_MAX_SEGMENTS = 1 << 10
"""Segments of a frame. Encoders write about 10, and a few more for metadata."""

_MAX_SCANS = 32
"""Progressive encoders write about 10 scans. A decoder processes every pixel in each."""


def read_frame(data: bytes, max_pixels: int) -> ImageHeader:
    """The header of a JPEG frame. Raises FrameError."""
    if not data.startswith(_JPEG_START):
        raise broken_frame("the frame is not a JPEG")
    try:
        header = read_jpeg(data, _MAX_SEGMENTS)
    except BrokenImageError as error:
        raise broken_frame(str(error)) from None
    except TooManySegmentsError:
        raise broken_frame(f"a JPEG must have at most {_MAX_SEGMENTS} segments") from None
    check_pixels(header.width, header.height, max_pixels)
    if header.scan_pixels > _MAX_SCANS * max_pixels:
        raise broken_frame("the JPEG has too many scans for its size")
    return header


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises FrameError if a frame has too many pixels."""
    if width * height > max_pixels:
        raise FrameError(
            VideoReason.TOO_MANY_PIXELS,
            f"{width} x {height}: a frame must have at most {max_pixels} pixels",
        )
