"""Draws boxes and lines of text on the pixels of a frame."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sluice.images.geometry import Pixels
from video.annotation.boxes import Box
from video.annotation.captions import shown

_COLORS: Final = (
    (230, 60, 60), (60, 180, 75), (66, 135, 245), (245, 160, 40), (170, 80, 220),
    (40, 200, 200), (240, 90, 190), (160, 200, 50),
)  # fmt: skip
_TEXT: Final = (255, 255, 255)
_BACKGROUND: Final = (20, 20, 20)
_FRAME: Final = (255, 255, 255)
_MARGIN: Final = 3
_LINES_OF_A_FRAME: Final = 30
_MIN_FONT: Final = 10


def draw(
    pixels: Pixels,
    boxes: Sequence[Box],
    lines: Sequence[str],
    region: tuple[float, float, float, float] | None,
) -> Pixels:
    """A copy of the pixels with boxes, lines of text and the edges of the region.

    `region`: left, top, right and bottom in shares of the frame; None for the whole frame.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    canvas = ImageDraw.Draw(image)
    font = _font(max(_MIN_FONT, image.height // _LINES_OF_A_FRAME))
    stroke = max(1, image.height // 240)
    if region is not None:
        canvas.rectangle(_edges(image, *region), outline=_FRAME, width=1)
    for box in boxes:
        color = _COLORS[box.kind % len(_COLORS)]
        edges = _edges(image, box.left, box.top, box.right, box.bottom)
        canvas.rectangle(edges, outline=color, width=stroke)
        if box.text:
            _write(canvas, font, edges[0], edges[1], shown(box.text), color)
    top = 0
    for line in lines:
        top = _write(canvas, font, 0, top, line, _BACKGROUND)
    drawn: Pixels = np.asarray(image)
    return drawn


def _edges(
    image: Image.Image, left: float, top: float, right: float, bottom: float
) -> tuple[int, int, int, int]:
    """The edges in pixels, inside of the image."""
    width, height = image.width - 1, image.height - 1
    x0, y0 = round(left * width), round(top * height)
    return x0, y0, max(x0, round(right * width)), max(y0, round(bottom * height))


def _write(
    canvas: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    left: int,
    top: int,
    text: str,
    background: tuple[int, int, int],
) -> int:
    """Write a line on a background. Returns the place of the next line."""
    *_, x1, y1 = canvas.textbbox((left + _MARGIN, top + _MARGIN), text, font=font)
    end = int(y1) + _MARGIN
    canvas.rectangle((left, top, x1 + _MARGIN, end), fill=background)
    canvas.text((left + _MARGIN, top + _MARGIN), text, fill=_TEXT, font=font)
    return end + 1


@lru_cache(8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
