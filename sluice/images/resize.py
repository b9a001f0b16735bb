"""Crops and resizes images in tiles.

An image is cropped, converted and resized one tile after another. So the copies that Pillow makes
are small, and no call of Pillow holds the interpreter lock for long.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sluice.images.geometry import Box, Fit, Part, Pixels

Crop = Callable[[Part], Image.Image]
"""Copies a part of an image, and converts its colors. Resizing does not change the mode."""

MAX_TILE_PIXELS = 1 << 20
"""Maximum pixels of a tile, in the image and in the result: an image of 1280 x 720 is one tile."""

_TILE_COPIES = 5
"""Copies of a tile at the same time, at 4 bytes for a pixel: the part of the image, its conversions
to RGBA, onto a background and to RGB, and the result."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_SUPPORT = {"nearest": 1, "bilinear": 1, "bicubic": 2, "lanczos": 3}
"""Radius of the filters, in pixels of the smaller image."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One dimension of the resizing: `size` pixels become `target` pixels.

    `start` is the first edge in the image, `scale` the pixels of the image for each pixel of the
    result, and `margin` the pixels outside a tile that the filter reads.
    """

    start: float
    scale: float
    margin: int
    size: int
    target: int

    def length(self, target: int) -> int:
        """Maximum pixels of the image that a tile of `target` pixels needs."""
        return min(self.size, math.ceil(target * self.scale) + 1 + 2 * self.margin)

    def divisible(self, target: int) -> bool:
        """Whether two halves of a tile together read at most 1.5 times what the tile reads.

        All tiles then read at most three times the pixels of the image in this dimension.
        """
        return 4 * self.length(_half(target)) <= 3 * self.length(target)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The pixels of the image that the pixels from `first` to `last` of the result need."""
        low = math.floor(self.start + first * self.scale) - self.margin
        high = math.ceil(self.start + last * self.scale) + self.margin
        return max(0, low), min(self.size, high)

    def edges(self, first: int, last: int, offset: int, length: int) -> tuple[float, float]:
        """The edges of a tile in its part of the image."""
        low = self.start + first * self.scale - offset
        high = self.start + last * self.scale - offset
        # Pillow refuses edges that rounding has moved out of the image.
        return max(0.0, low), min(float(length), high)


def resize(
    crop: Crop,
    size: tuple[int, int],
    fit: Fit,
    interpolation: str,
    channels: int,
    max_tile: int = MAX_TILE_PIXELS,
) -> Pixels:
    """Crop and resize an image as `fit` says. The decoder may have scaled it to `size` already.

    `max_tile` is the maximum number of pixels of a tile.
    """
    horizontal, vertical = _axes(size, fit, interpolation)
    # So the image between the two steps is at most as large as the larger of part and tile.
    width_first = horizontal.scale >= vertical.scale
    out = np.empty((fit.height, fit.width, channels), np.uint8)
    for left, top, right, bottom in _tiles(horizontal, vertical, max_tile):
        part_left, part_right = horizontal.span(left, right)
        part_top, part_bottom = vertical.span(top, bottom)
        part = crop((part_left, part_top, part_right, part_bottom))
        x0, x1 = horizontal.edges(left, right, part_left, part.width)
        y0, y1 = vertical.edges(top, bottom, part_top, part.height)
        resized = _resize_tile(
            part,
            (right - left, bottom - top),
            (x0, y0, x1, y1),
            _RESAMPLING[interpolation],
            width_first,
        )
        pixels = np.asarray(resized)
        out[top:bottom, left:right] = pixels[..., None] if pixels.ndim == 2 else pixels
    return out


def resize_pixels(pixels: Pixels, fit: Fit, interpolation: str) -> Pixels:
    """Crop and resize decoded pixels. The decoder may have scaled them already."""
    height, width, channels = pixels.shape
    plane = pixels[..., 0] if channels == 1 else pixels

    def crop(part: Part) -> Image.Image:
        left, top, right, bottom = part
        return Image.fromarray(plane[top:bottom, left:right])

    return resize(crop, (width, height), fit, interpolation, channels)


def resize_memory(size: tuple[int, int], fit: Fit, interpolation: str) -> int:
    """Bytes that `resize` needs at most, without the image and the result."""
    horizontal, vertical = _axes(size, fit, interpolation)
    columns, rows = _tile_size(horizontal, vertical, MAX_TILE_PIXELS)
    return _TILE_COPIES * 4 * max(_areas(horizontal, vertical, columns, rows))


def _axes(size: tuple[int, int], fit: Fit, interpolation: str) -> tuple[_Axis, _Axis]:
    left, top, right, bottom = fit.scaled_box(*size)
    support = _SUPPORT[interpolation]
    return (
        _axis(left, right, size[0], fit.width, support),
        _axis(top, bottom, size[1], fit.height, support),
    )


def _axis(start: float, end: float, size: int, target: int, support: int) -> _Axis:
    scale = (end - start) / target
    return _Axis(start, scale, math.ceil(support * max(1.0, scale)) + 1, size, target)


def _tile_size(horizontal: _Axis, vertical: _Axis, max_tile: int) -> tuple[int, int]:
    """Maximum width and height of a tile of the result."""
    columns, rows = horizontal.target, vertical.target
    while True:
        part, tile = _areas(horizontal, vertical, columns, rows)
        if max(part, tile) <= max_tile:
            return columns, rows
        # Whole rows first: their pixels are next to each other in memory.
        if vertical.divisible(rows):
            rows = _half(rows)
        elif horizontal.divisible(columns):
            columns = _half(columns)
        elif tile > max(part, max_tile):
            # Reading the same part of the image again takes less than resizing it.
            columns, rows = (columns, _half(rows)) if rows > 1 else (_half(columns), rows)
        else:
            return columns, rows


def _areas(horizontal: _Axis, vertical: _Axis, columns: int, rows: int) -> tuple[int, int]:
    """Pixels of a tile in the image and in the result."""
    return horizontal.length(columns) * vertical.length(rows), columns * rows


def _half(size: int) -> int:
    return -(-size // 2)


def _tiles(horizontal: _Axis, vertical: _Axis, max_tile: int) -> Iterator[Part]:
    columns, rows = _tile_size(horizontal, vertical, max_tile)
    for top in range(0, vertical.target, rows):
        for left in range(0, horizontal.target, columns):
            right, bottom = left + columns, top + rows
            yield left, top, min(right, horizontal.target), min(bottom, vertical.target)


def _resize_tile(
    part: Image.Image,
    size: tuple[int, int],
    box: Box,
    resampling: Image.Resampling,
    width_first: bool,
) -> Image.Image:
    """Resize one tile in two steps.

    Pillow rounds and clips between the steps, and would choose their order for each tile.
    """
    if resampling == Image.Resampling.NEAREST:
        return part.resize(size, resampling, box)
    left, top, right, bottom = box
    width, height = size
    if width_first:
        part = _step(part, (width, part.height), (left, 0.0, right, part.height), resampling)
        return _step(part, size, (0.0, top, width, bottom), resampling)
    part = _step(part, (part.width, height), (0.0, top, part.width, bottom), resampling)
    return _step(part, size, (left, 0.0, right, height), resampling)


def _step(
    image: Image.Image, size: tuple[int, int], box: Box, resampling: Image.Resampling
) -> Image.Image:
    # Pillow copies an image that it need not resize.
    unchanged = size == image.size and box == (0, 0, *size)
    return image if unchanged else image.resize(size, resampling, box)
