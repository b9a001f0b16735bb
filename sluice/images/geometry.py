"""Computes how an image of one size fills a tensor of another size, and undoes EXIF orientations.

Coordinates are those of the stored image, before its EXIF orientation is undone. So a rotated image
is resized first and turned upright last, when it is small.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sluice.config.tensors import ImageInput

Pixels = npt.NDArray[np.uint8]
"""[height, width, channels]"""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The part `box` of an image of size `source` (width, height) becomes `width` x `height`."""

    source: tuple[int, int]
    box: Box
    width: int
    height: int

    @property
    def unchanged(self) -> bool:
        """Whether the result is the whole image in its own size."""
        whole = (0.0, 0.0, float(self.source[0]), float(self.source[1]))
        return (self.width, self.height) == self.source and self.box == whole

    @property
    def min_source(self) -> tuple[int, int]:
        """Smallest width and height of a scaled copy of the image that needs no enlarging."""
        left, top, right, bottom = self.box
        across, down = self.width / (right - left), self.height / (bottom - top)
        width, height = self.source
        return min(width, math.ceil(width * across)), min(height, math.ceil(height * down))

    def scaled_box(self, width: int, height: int) -> Box:
        """The box in a scaled copy of the image."""
        across, down = width / self.source[0], height / self.source[1]
        left, top, right, bottom = self.box
        # Rounding must not move the box over the edge: Pillow refuses such a box.
        return (
            left * across,
            top * down,
            min(right * across, float(width)),
            min(bottom * down, float(height)),
        )


def fit_image(image: ImageInput, width: int, height: int, orientation: int) -> Fit:
    """How an image of this size and EXIF orientation fills the declared input."""
    to_width, to_height = image.width, image.height
    if orientation >= 5:
        to_width, to_height = to_height, to_width
    source, whole = (width, height), (0.0, 0.0, float(width), float(height))
    if image.resize == "stretch":
        return Fit(source, whole, to_width, to_height)
    if image.resize == "crop":
        factor = max(to_width / width, to_height / height) / image.crop_fraction
        left = max(0.0, (width - to_width / factor) / 2)
        top = max(0.0, (height - to_height / factor) / 2)
        return Fit(source, (left, top, width - left, height - top), to_width, to_height)
    factor = min(to_width / width, to_height / height)
    return Fit(
        source,
        whole,
        min(to_width, max(1, round(width * factor))),
        min(to_height, max(1, round(height * factor))),
    )


def undo_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Turn an image upright: transpose it if necessary, then mirror its columns and rows."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
