"""A smaller image is centered on the background, in either memory layout."""

import numpy as np
import pytest

from sluice.config.tensors import ImageInput
from sluice.images.placement import Placement

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def placement(color: str = "RGB") -> Placement:
    return Placement(
        ImageInput.model_validate(
            {"width": 16, "height": 12, "color": color, "background": (1, 100, 200)}
        )
    )


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_smaller_image_is_centered(planar: bool, orientation: int) -> None:
    pixels = PIXELS
    if planar:
        pixels = np.ascontiguousarray(PIXELS.transpose(2, 0, 1)).transpose(1, 2, 0)
    placed = placement().place(pixels, orientation)
    if orientation == 1:
        area, wanted = placed[3:8, 4:11], PIXELS
    else:
        area, wanted = placed[2:9, 5:10], np.rot90(PIXELS, -1)
    assert (area == wanted).all()
    area[...] = (1, 100, 200)
    assert (placed == (1, 100, 200)).all()


def test_the_background_has_the_order_of_the_colors() -> None:
    assert (placement("BGR").place(PIXELS, 1)[0, 0] == (200, 100, 1)).all()
    assert placement("GRAY").place(PIXELS[..., :1], 1)[0, 0] == round(0.299 + 58.7 + 22.8)


def test_an_image_of_the_whole_size_is_not_copied() -> None:
    pixels = np.zeros((12, 16, 3), np.uint8)
    assert placement().place(pixels, 1) is pixels
