"""Places a resized image in the area of a tensor."""

import numpy as np

from sluice.config.tensors import ImageInput
from sluice.images.geometry import Pixels, apply_orientation

_LUMA = (0.299, 0.587, 0.114)


class Placement:
    """Turns images upright, and centers smaller ones, for one declared image input."""

    def __init__(self, image: ImageInput) -> None:
        self._size = (image.height, image.width)
        self._shape = (image.height, image.width, image.channels)
        self._background = np.array(_background(image), np.uint8)

    def place(self, pixels: Pixels, orientation: int) -> Pixels:
        """Apply the EXIF orientation, and center a smaller image on the background."""
        upright = apply_orientation(pixels, orientation)
        height, width = upright.shape[:2]
        if (height, width) == self._size:
            return upright
        canvas = self._canvas(upright)
        top, left = (self._size[0] - height) // 2, (self._size[1] - width) // 2
        canvas[top : top + height, left : left + width] = upright
        return canvas

    def _canvas(self, pixels: Pixels) -> Pixels:
        """The background, in the memory layout of the pixels."""
        canvas = np.empty_like(pixels, shape=self._shape)
        if canvas.flags.c_contiguous:
            # One row at a time: numpy does not vectorize an inner loop over three channels.
            canvas.reshape(self._shape[0], -1)[...] = np.tile(self._background, self._shape[1])
        else:
            canvas[...] = self._background
        return canvas


def _background(image: ImageInput) -> tuple[int, ...]:
    red, green, blue = image.background
    if image.color == "GRAY":
        return (round(sum(w * v for w, v in zip(_LUMA, (red, green, blue), strict=True))),)
    return (blue, green, red) if image.color == "BGR" else (red, green, blue)
