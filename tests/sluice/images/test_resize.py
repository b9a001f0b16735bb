"""An image that is resized in tiles has the pixels of one that is resized at once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sluice.config.tensors import ImageInput
from sluice.images.geometry import Part, fit_image
from sluice.images.resize import resize


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    how=st.sampled_from(("stretch", "crop", "pad")),
    # The nearest pixel may be either of two, if both are equally near.
    interpolation=st.sampled_from(("bilinear", "bicubic", "lanczos")),
    tile=st.integers(1, 4000),
)
def test_tiles_have_the_pixels_of_the_whole_image(
    size: tuple[int, int], target: tuple[int, int], how: str, interpolation: str, tile: int
) -> None:
    noise = np.random.default_rng(size[0]).integers(0, 2, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(255 * noise)
    declared = ImageInput.model_validate({"width": target[0], "height": target[1], "resize": how})
    fit = fit_image(declared, *size, 1)

    def crop(part: Part) -> Image.Image:
        return image.crop(part)

    tiled = resize(crop, size, fit, interpolation, 3, tile)
    whole = resize(crop, size, fit, interpolation, 3, 1 << 30)
    # The edges of a tile are rounded, so a value may be rounded to another integer after the first
    # step. The weights of the second step sum up to less than 2, without their signs.
    assert np.abs(tiled.astype(int) - whole).max() <= 2
