"""Computes how an image is cropped and scaled to the size of a tensor, and applies the EXIF
orientation.

Coordinates refer to the stored image, before the EXIF orientation is applied. An image is resized
before the orientation is applied, because rotating a small image takes less time.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sluice.config.tensors import ImageInput

Pixels = npt.NDArray[np.uint8]
"""[height, width, channels]"""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edges, in pixels."""


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
        whole = (0.0, 0.0, float(self.source[0]), float(self.source[1]))
        return (self.width, self.height) == self.source and self.box == whole

    @property
    def min_decoded_size(self) -> tuple[int, int]:
        """Minimum (width, height) to which a decoder may scale the whole image down.

        In a smaller image, the box would have to be enlarged.
        """
        left, top, right, bottom = self.box
        x_scale, y_scale = self.width / (right - left), self.height / (bottom - top)
        width, height = self.source
        return min(width, math.ceil(width * x_scale)), min(height, math.ceil(height * y_scale))

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


def fit_image(image: ImageInput, width: int, height: int, orientation: int) -> Fit:
    """The `Fit` of an image with this size and EXIF orientation to the declared input."""
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


def apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation: transpose the image if necessary, then mirror columns and rows."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
