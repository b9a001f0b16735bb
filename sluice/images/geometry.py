"""Where a picture of some size comes to lie in a tensor of another: arithmetic, and no pixels read.

All of it is in terms of the picture as it is stored. One that its camera turned is drawn turned,
which is cheapest while it is small, and put upright at last.
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
    """`box` of a picture of `source` size (width, height) is drawn `width` x `height` large."""

    source: tuple[int, int]
    box: Box
    width: int
    height: int

    @property
    def unchanged(self) -> bool:
        """Whether the whole picture is drawn, at its own size."""
        whole = (0.0, 0.0, float(self.source[0]), float(self.source[1]))
        return (self.width, self.height) == self.source and self.box == whole

    @property
    def least_source(self) -> tuple[int, int]:
        """Width and height from which a smaller copy of the picture still needs no enlarging."""
        left, top, right, bottom = self.box
        across, down = self.width / (right - left), self.height / (bottom - top)
        width, height = self.source
        return min(width, math.ceil(width * across)), min(height, math.ceil(height * down))

    def box_at(self, width: int, height: int) -> Box:
        """The box in a copy of the picture that has another size."""
        across, down = width / self.source[0], height / self.source[1]
        left, top, right, bottom = self.box
        # Never over the edge, even by rounding: Pillow refuses such a box.
        return (
            left * across,
            top * down,
            min(right * across, float(width)),
            min(bottom * down, float(height)),
        )


def fitted(image: ImageInput, width: int, height: int, orientation: int) -> Fit:
    """How a picture of this size and EXIF orientation fills the declared input."""
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


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes an EXIF orientation: 2 to 4 mirror and turn, 5 to 8 transpose first."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
