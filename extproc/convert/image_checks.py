"""Checks encoded images before they are decoded: type, pixels and scans."""

from collections.abc import Sequence

from extproc.convert.errors import ConversionError
from extproc.convert.image_header import image_size, image_type
from extproc.convert.limits import ConversionLimits
from extproc.convert.media_types import IMAGES
from sluice.contract.reasons import Reason

_SHORTEST_SCAN = 10
"""Minimum bytes of a JPEG scan: its header with one component (ITU-T T.81 section B.2.3)."""

_START_OF_SCAN = b"\xff\xda"


def check_type(data: bytes, declared: str, field: str) -> None:
    """Raises ConversionError (400, 415) unless the data are an image of the declared media type."""
    if not data:
        raise ConversionError(Reason.EMPTY_BODY, field, "must not be empty")
    found = _checked_type(data, field)
    if declared in IMAGES and found != declared:
        raise ConversionError(
            Reason.CONTENT_TYPE_MISMATCH, field, f"is {found}, but the content type is {declared}"
        )


def check_pixels(
    images: Sequence[bytes], fields: Sequence[str], max_pixels: int, limits: ConversionLimits
) -> None:
    """Raises ConversionError (400, 413, 415) if the images have too many pixels in total.

    Also refuses a JPEG with too many scans for its size.
    """
    remaining = max_pixels
    for data, field in zip(images, fields, strict=True):
        width, height = _checked_size(data, field)
        remaining -= width * height
        if remaining < 0:
            raise ConversionError(
                Reason.TOO_MANY_PIXELS,
                field,
                f"{width} x {height}: the images of an input must have at most {max_pixels} "
                "pixels in total",
            )
        _check_scans(data, width * height, field, limits.max_jpeg_scan_pixels)


def _checked_type(data: bytes, field: str) -> str:
    found = image_type(data)
    if found is None:
        raise ConversionError(Reason.NOT_AN_IMAGE, field, "must be a JPEG, PNG or WebP image")
    return found


def _checked_size(data: bytes, field: str) -> tuple[int, int]:
    size = image_size(data, _checked_type(data, field))
    if size is None or 0 in size:
        raise ConversionError(Reason.BROKEN_IMAGE, field, "the header is not valid")
    return size


def _check_scans(data: bytes, pixels: int, field: str, max_scan_pixels: int) -> None:
    # A short file cannot contain enough scans to exceed the limit, so its scans are not counted.
    if pixels * len(data) // _SHORTEST_SCAN <= max_scan_pixels:
        return
    if image_type(data) != "image/jpeg":
        return
    if pixels * data.count(_START_OF_SCAN) > max_scan_pixels:
        raise ConversionError(
            Reason.TOO_MANY_SCANS, field, "the JPEG has too many scans for its size"
        )
