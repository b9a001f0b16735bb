"""An image, or a part of it, is fitted to a tensor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.config.tensors import ImageInput
from sluice.images.geometry import Fit, Part, apply_orientation, fit_image, fit_part

SIDES = st.integers(1, 500)
IMAGES = st.builds(
    lambda width, height, resize: ImageInput.model_validate(
        {"width": width, "height": height, "resize": resize}
    ),
    SIDES,
    SIDES,
    st.sampled_from(("stretch", "crop", "pad")),
)


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, int, Part]:
    """Width and height of an image, and a part of it."""
    width, height = draw(SIDES), draw(SIDES)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return width, height, (left, top, right, bottom)


@given(image=IMAGES, size=parts(), orientation=st.integers(1, 8))
def test_a_part_is_fitted_like_an_image_of_its_size(
    image: ImageInput, size: tuple[int, int, Part], orientation: int
) -> None:
    width, height, part = size
    left, top, right, bottom = part
    whole = fit_image(image, right - left, bottom - top, orientation)
    cropped = fit_part(image, part, width, height, orientation).cropped(part)
    assert (cropped.source, cropped.width, cropped.height) == (
        whole.source, whole.width, whole.height,
    )  # fmt: skip
    assert cropped.box == pytest.approx(whole.box)


@given(image=IMAGES, size=parts(), orientation=st.integers(1, 8))
def test_a_box_is_inside_of_its_part(
    image: ImageInput, size: tuple[int, int, Part], orientation: int
) -> None:
    width, height, part = size
    left, top, right, bottom = fit_part(image, part, width, height, orientation).box
    assert part[0] - 1e-6 <= left < right <= part[2] + 1e-6
    assert part[1] - 1e-6 <= top < bottom <= part[3] + 1e-6


@given(
    image=IMAGES, width=SIDES, height=SIDES, interpolation=st.sampled_from(("nearest", "bicubic"))
)
def test_a_scaled_image_need_not_be_enlarged(
    image: ImageInput, width: int, height: int, interpolation: str
) -> None:
    fit = fit_image(image, width, height, 1)
    scaled = fit.scaled_size(interpolation)
    smallest = fit.min_scaled_size(interpolation)
    assert smallest[0] <= scaled[0] <= width
    assert smallest[1] <= scaled[1] <= height
    if interpolation == "nearest":
        assert scaled == (width, height)


def test_an_image_is_scaled_by_the_largest_factor_that_leaves_enough_pixels() -> None:
    whole = (0.0, 0.0, 640.0, 480.0)
    assert Fit((640, 480), whole, 80, 60).scaled_size("bilinear") == (80, 60)
    assert Fit((640, 480), whole, 81, 60).scaled_size("bilinear") == (160, 120)
    assert Fit((640, 480), whole, 321, 240).scaled_size("bilinear") == (640, 480)
    half = (0.0, 0.0, 320.0, 240.0)
    assert Fit((640, 480), half, 80, 60).scaled_size("bilinear") == (160, 120)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_moves_the_first_pixel_to_its_corner(orientation: int) -> None:
    pixels = np.zeros((2, 3, 1), np.uint8)
    pixels[0, 0] = 1
    upright = apply_orientation(pixels, orientation)[..., 0]
    assert upright.shape == ((2, 3) if orientation < 5 else (3, 2))
    # The side of row 0 and the side of column 0 (EXIF 2.32, tag 274).
    row, column = {
        1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0),
        5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0),
    }[orientation]  # fmt: skip
    assert upright[row, column] == 1
