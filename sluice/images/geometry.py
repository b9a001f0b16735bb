"""Computes how an image is cropped and scaled to the size of a tensor, and applies the EXIF
orientation.

Coordinates refer to the stored image, before the EXIF orientation is applied. An image is resized
before the orientation is applied, because rotating a small image takes less time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sluice.config.tensors import ImageInput

Pixels = npt.NDArray[np.uint8]
"""[height, width, channels]"""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edges, in pixels."""

Part = tuple[int, int, int, int]
"""A box in whole pixels."""

SCALES = (8, 4, 2)
"""Factors by which a decoder scales an image down. Smaller factors take longer than no scaling."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Scales the part `box` of an image to `width` x `height` pixels.

    `source` is the (width, height) of the image.
    """

    source: tuple[int, int]
    box: Box
    width: int
    height: int

    @property
    def unchanged(self) -> bool:
        """Whether the image is neither cropped nor scaled."""
        return (self.width, self.height) == self.source and self.whole

    @property
    def whole(self) -> bool:
        """Whether the image is not cropped."""
        return self.box == (0.0, 0.0, float(self.source[0]), float(self.source[1]))

    @property
    def min_decoded_size(self) -> tuple[int, int]:
        """Minimum (width, height) to which a decoder may scale the whole image down.

        In a smaller image, the box would have to be enlarged.
        """
        left, top, right, bottom = self.box
        x_scale, y_scale = self.width / (right - left), self.height / (bottom - top)
        width, height = self.source
        return min(width, math.ceil(width * x_scale)), min(height, math.ceil(height * y_scale))

    def cropped(self, part: Part) -> "Fit":
        """The same for an image that is cropped to a part, which contains the box."""
        left, top, right, bottom = part
        box = (self.box[0] - left, self.box[1] - top, self.box[2] - left, self.box[3] - top)
        return Fit((right - left, bottom - top), box, self.width, self.height)

    def scaled_size(self, interpolation: str) -> tuple[int, int]:
        """Size to which a decoder scales the whole image down, before it is resized."""
        min_width, min_height = self.min_scaled_size(interpolation)
        for scale in SCALES:
            width, height = (-(-side // scale) for side in self.source)
            if width >= min_width and height >= min_height:
                return width, height
        return self.source

    def min_scaled_size(self, interpolation: str) -> tuple[int, int]:
        """Minimum (width, height) of the scaled image for this interpolation."""
        # The nearest pixel of a scaled image is not a pixel of the image.
        return self.source if interpolation == "nearest" else self.min_decoded_size

    def scaled_box(self, width: int, height: int) -> Box:
        """The box in a copy of the image that is scaled to `width` x `height`."""
        x_scale, y_scale = width / self.source[0], height / self.source[1]
        left, top, right, bottom = self.box
        # Pillow refuses a box that rounding has moved over the edge of the image.
        return (
            left * x_scale,
            top * y_scale,
            min(right * x_scale, float(width)),
            min(bottom * y_scale, float(height)),
        )


FitSize = Callable[[int, int, int], Fit]
"""Computes the `Fit` of an image from its width, height and EXIF orientation."""


def fit_part(image: ImageInput, part: Part, width: int, height: int, orientation: int) -> Fit:
    """The `Fit` of a part of an image to the declared input."""
    left, top, right, bottom = part
    fit = fit_image(image, right - left, bottom - top, orientation)
    x0, y0, x1, y1 = fit.box
    box = (x0 + left, y0 + top, x1 + left, y1 + top)
    return Fit((width, height), box, fit.width, fit.height)


def fit_image(image: ImageInput, width: int, height: int, orientation: int) -> Fit:
    """The `Fit` of an image with this size and EXIF orientation to the declared input."""
    to_width, to_height = upright_size(image.width, image.height, orientation)
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


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of an image after its EXIF orientation is applied."""
    return (height, width) if orientation >= 5 else (width, height)


def apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation: transpose the image if necessary, then mirror columns and rows."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
