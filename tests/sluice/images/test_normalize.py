"""Pixels become values in both layouts, whatever their own layout in memory is."""

import numpy as np
import pytest

from sluice.config.tensors import ImageInput
from sluice.images.normalize import DTYPES, keeps_pixels, normalizer

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)


def image(layout: str, **values: object) -> ImageInput:
    return ImageInput.model_validate({"width": 16, "height": 12, "layout": layout, **values})


@pytest.mark.parametrize("datatype", ["UINT8", "INT8", "FP16", "BF16", "FP32"])
@pytest.mark.parametrize("planar", [False, True])
def test_the_layouts_have_the_same_values(datatype: str, planar: bool) -> None:
    pixels = PIXELS
    if planar:
        pixels = np.ascontiguousarray(PIXELS.transpose(2, 0, 1)).transpose(1, 2, 0)
    tensors = []
    for layout in ("NHWC", "NCHW"):
        declared = image(layout, scale=0.3, mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 3.0))
        out = np.zeros(declared.shape, DTYPES[datatype])
        normalizer(declared, datatype)(pixels, out)
        tensors.append(out)
    assert (tensors[0].transpose(2, 0, 1) == tensors[1]).all()
    if datatype == "FP32":
        wanted = (PIXELS * 0.3 - (10, 20, 30)) / (1, 2, 3)
        assert np.abs(tensors[0] - wanted).max() < 1e-4


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("datatype", ["UINT8", "INT8"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_only_plain_pixels_are_kept(layout: str, datatype: str, scale: float) -> None:
    declared = image(layout, scale=scale)
    out = np.zeros(declared.shape, DTYPES[datatype])
    normalizer(declared, datatype)(PIXELS, out)
    same = out.tobytes() == PIXELS.tobytes()
    assert keeps_pixels(declared, datatype) == same
