"""Finds the part of a frame that a region means, and where it is in the stored image."""

import math

from sluice.config.video import Region
from sluice.images.geometry import Part

_ROUNDING = 1e-6
"""Error of a share, in pixels, that makes no difference."""


def region_part(region: Region, width: int, height: int, orientation: int) -> Part:
    """The part of a stored image of this size, with even edges so that colors are not shifted.

    `region` refers to the upright frame. Frames have colors for blocks of 2 x 2 pixels.
    """
    left, top = region.left, region.top
    right, bottom = left + region.width, top + region.height
    # The inverse of `apply_orientation`.
    if orientation in (2, 3, 6, 7):
        left, right = 1 - right, 1 - left
    if orientation in (3, 4, 7, 8):
        top, bottom = 1 - bottom, 1 - top
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    x0, x1 = _even_span(left * width, right * width, width)
    y0, y1 = _even_span(top * height, bottom * height, height)
    return x0, y0, x1, y1


def even_part(box: tuple[float, float, float, float], width: int, height: int) -> Part:
    """The smallest part of an image with even edges that contains a box."""
    x0, x1 = _even_span(box[0], box[2], width)
    y0, y1 = _even_span(box[1], box[3], height)
    return x0, y0, x1, y1


def _even_span(start: float, end: float, size: int) -> tuple[int, int]:
    first = max(0, min(size - 1, math.floor(start + _ROUNDING)))
    last = min(size, max(first + 1, math.ceil(end - _ROUNDING)))
    return first - first % 2, min(size, last + last % 2)
