"""Checks encoded images before they are decoded: type, structure, pixels, scans and memory."""

from collections.abc import Callable, Mapping, Sequence

from extproc.convert.errors import ConversionError
from extproc.convert.limits import MIB, ConversionLimits
from sluice.contract.reasons import Reason
from sluice.images.header import (
    BrokenImageError,
    ImageHeader,
    MediaType,
    TooManySegmentsError,
)
from sluice.images.jpeg_structure import read_jpeg
from sluice.images.png_structure import SIGNATURE, read_png
from sluice.images.webp_structure import read_webp
from sluice.media_types import IMAGES

_READERS: Mapping[MediaType, Callable[[bytes, int], ImageHeader]] = {
    "image/jpeg": read_jpeg,
    "image/png": read_png,
    "image/webp": read_webp,
}


def image_type(data: bytes) -> MediaType | None:
    """Media type of an image, from its first bytes (WHATWG MIME Sniffing section 6.1), or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(SIGNATURE):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:14] == b"WEBPVP":
        return "image/webp"
    return None


def check_type(data: bytes, declared: str, field: str) -> None:
    """Raises ConversionError (400, 415) unless the data are an image of the declared media type."""
    if not data:
        raise ConversionError(Reason.EMPTY_BODY, field, "must not be empty")
    found = _checked_type(data, field)
    if declared in IMAGES and found != declared:
        raise ConversionError(
            Reason.CONTENT_TYPE_MISMATCH, field, f"is {found}, but the content type is {declared}"
        )


def read_header(data: bytes, field: str, limits: ConversionLimits) -> ImageHeader:
    """The header of an image. Raises ConversionError (400, 413, 415)."""
    read = _READERS[_checked_type(data, field)]
    try:
        return read(data, limits.max_image_segments)
    except BrokenImageError as error:
        raise ConversionError(Reason.BROKEN_IMAGE, field, str(error)) from None
    except TooManySegmentsError:
        raise ConversionError(
            Reason.TOO_MANY_SEGMENTS,
            field,
            f"an image must have at most {limits.max_image_segments} segments or chunks",
        ) from None


def check_pixels(
    headers: Sequence[ImageHeader],
    fields: Sequence[str],
    max_pixels: int,
    limits: ConversionLimits,
) -> None:
    """Raises ConversionError (413) if the images have too many pixels or scans in total."""
    pixels = max_pixels
    scan_pixels = limits.max_jpeg_scan_pixels
    for header, field in zip(headers, fields, strict=True):
        pixels -= header.pixels
        if pixels < 0:
            raise ConversionError(
                Reason.TOO_MANY_PIXELS,
                field,
                f"{header.width} x {header.height}: the images of an input must have at most "
                f"{max_pixels} pixels in total",
            )
        scan_pixels -= header.scan_pixels
        if scan_pixels < 0:
            raise ConversionError(
                Reason.TOO_MANY_SCANS, field, "the JPEG has too many scans for its size"
            )


def check_memory(header: ImageHeader, memory: int, field: str, limits: ConversionLimits) -> None:
    """Raises ConversionError (413) if an image needs too much memory to be decoded."""
    if memory > limits.max_image_memory:
        raise ConversionError(
            Reason.TOO_MANY_PIXELS,
            field,
            f"{header.width} x {header.height}: decoding needs {memory // MIB} MiB, and may need "
            f"at most {limits.max_image_memory // MIB} MiB",
        )


def _checked_type(data: bytes, field: str) -> MediaType:
    found = image_type(data)
    if found is None:
        raise ConversionError(Reason.NOT_AN_IMAGE, field, "must be a JPEG, PNG or WebP image")
    return found
