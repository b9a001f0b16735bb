"""A number that is drawn into a frame so that programs can read it after lossy compression.

The number is a band of 16 columns, the highest bit first. A column is white above black for 1, and
black above white for 0, so a column without contrast is not a bit.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]

BITS = 16
MODULUS = 1 << BITS
REGION: Mapping[str, float] = {"left": 0.1, "top": 0.9, "width": 0.8, "height": 0.1}
"""The part of the frame with the number, in shares of its width and height."""
_MIN_CONTRAST = 48


def draw(frame: npt.NDArray[np.uint8], number: int) -> None:
    """Draw a number into a frame [H, W, 3]; its remainder if it needs more than 16 bits."""
    height, width = frame.shape[:2]
    columns = np.linspace(REGION["left"], REGION["left"] + REGION["width"], BITS + 1) * width
    top, middle = (round(share * height) for share in (0.9, 0.95))
    for position, (left, right) in enumerate(pairwise(columns)):
        one = number >> (BITS - 1 - position) & 1
        frame[top:middle, round(left) : round(right)] = 255 * one
        frame[middle:, round(left) : round(right)] = 255 * (1 - one)


def read(band: Gray) -> int | None:
    """The number in a band [H, W] (`REGION` of a frame); None if a column has no contrast."""
    height, width = band.shape
    rows, columns = height // 2, np.linspace(0, width, BITS + 1)
    number = 0
    for left, right in pairwise(columns):
        # The edges of a column are blurred.
        quarter = (right - left) / 4
        inner = band[:, round(left + quarter) : max(round(right - quarter), round(left) + 1)]
        above, below = inner[rows // 4 : rows - rows // 4], inner[rows + rows // 4 :]
        contrast = float(above.mean()) - float(below.mean())
        if abs(contrast) < _MIN_CONTRAST:
            return None
        number = number << 1 | (contrast > 0)
    return number
