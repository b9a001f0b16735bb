"""Where the input of a model lies in a frame: the inverse of the conversion to a tensor."""

from dataclasses import dataclass

from sluice.config.tensors import ImageInput
from sluice.config.video import FrameSize, Region
from sluice.images.geometry import fit_image
from video.conversion.part import region_part


@dataclass(frozen=True, slots=True)
class InputArea:
    """The part of a frame that the input covers, in shares of the frame.

    With `resize: pad`, the input reaches over the edges of the region. `input_width` and
    `input_height` are in pixels of the input.
    """

    left: float
    top: float
    width: float
    height: float
    input_width: int
    input_height: int


def input_area(
    image: ImageInput | None, region: Region, size: FrameSize | None, width: int, height: int
) -> InputArea:
    """The area for an upright frame of `width` x `height` pixels.

    `image` is the conversion that the input declares; None for an input that gets JPEG with the
    maximum `size`.
    """
    left, top, right, bottom = region_part(region, width, height, 1)
    part_width, part_height = right - left, bottom - top
    if image is None:
        factor = 1.0
        if size is not None:
            factor = min(1.0, size.width / part_width, size.height / part_height)
        shown = max(1, round(part_width * factor)), max(1, round(part_height * factor))
        box = (0.0, 0.0, float(part_width), float(part_height))
    else:
        shown = image.width, image.height
        box = _source_box(image, part_width, part_height)
    x0, y0, x1, y1 = box
    return InputArea(
        (left + x0) / width, (top + y0) / height, (x1 - x0) / width, (y1 - y0) / height, *shown
    )


def _source_box(image: ImageInput, width: int, height: int) -> tuple[float, float, float, float]:
    """What the input covers, in pixels of the region."""
    fit = fit_image(image, width, height, 1)
    left, top, right, bottom = fit.box
    x_scale, y_scale = (right - left) / fit.width, (bottom - top) / fit.height
    # A padded image is centered (`sluice.images.placement`).
    x0 = left - (image.width - fit.width) // 2 * x_scale
    y0 = top - (image.height - fit.height) // 2 * y_scale
    return x0, y0, x0 + image.width * x_scale, y0 + image.height * y_scale
