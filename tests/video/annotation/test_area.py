"""The area of the input in a frame is the inverse of the conversion to a tensor."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from sluice.config.tensors import ImageInput, TensorInput
from sluice.config.video import FrameSize, Region
from video.annotation.area import InputArea, input_area
from video.conversion import FrameConverter
from video.frame import EncodedImage

WIDTH, HEIGHT = 640, 480
SPOT = (330, 250, 390, 300)
"""A white rectangle in a black frame: left, top, right and bottom."""

WHOLE = Region()
PART = Region(left=0.25, top=0.25, width=0.5, height=0.6)


def frame() -> EncodedImage:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    left, top, right, bottom = SPOT
    pixels[top:bottom, left:right] = 255
    return EncodedImage(simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444"))


def tensor_input(resize: str, width: int, height: int, crop_fraction: float = 1.0) -> TensorInput:
    image = ImageInput.model_validate(
        {
            "width": width,
            "height": height,
            "resize": resize,
            "crop_fraction": crop_fraction,
            "background": (0, 0, 0),
        }
    )
    return TensorInput(name="x", datatype="UINT8", shape=(-1, height, width, 3), image=image)


def spot(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """The edges of the white rectangle in what the model gets."""
    bright = pixels[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def in_frame(area: InputArea, x: float, y: float) -> tuple[float, float]:
    return (
        (area.left + x / area.input_width * area.width) * WIDTH,
        (area.top + y / area.input_height * area.height) * HEIGHT,
    )


def assert_same(area: InputArea, found: tuple[float, float, float, float]) -> None:
    tolerance = 2 * max(
        1.0,
        area.width * WIDTH / area.input_width,
        area.height * HEIGHT / area.input_height,
    )
    corners = (*in_frame(area, *found[:2]), *in_frame(area, *found[2:]))
    assert corners == pytest.approx(SPOT, abs=tolerance)


@pytest.mark.parametrize("region", [WHOLE, PART])
@pytest.mark.parametrize(
    "declared",
    [
        tensor_input("stretch", 224, 224),
        tensor_input("stretch", 320, 100),
        tensor_input("crop", 224, 224),
        tensor_input("crop", 300, 200, 0.9),
        tensor_input("pad", 224, 224),
        tensor_input("pad", 200, 320),
        tensor_input("pad", 400, 200),
    ],
    ids=lambda each: f"{each.image.resize}-{each.image.width}x{each.image.height}",
)
def test_what_the_model_sees_is_mapped_to_where_it_is_in_the_frame(
    declared: TensorInput, region: Region
) -> None:
    converted = FrameConverter(declared, region, None, 1 << 22).convert(frame())
    assert declared.image is not None
    shape = declared.image.shape
    found = spot(np.frombuffer(converted.data, np.uint8).reshape(shape))
    assert_same(input_area(declared.image, region, None, WIDTH, HEIGHT), found)


@pytest.mark.parametrize("region", [WHOLE, PART])
@pytest.mark.parametrize("size", [None, FrameSize(width=200, height=8192)])
def test_the_pixels_of_a_jpeg_are_mapped_too(region: Region, size: FrameSize | None) -> None:
    declared = TensorInput(name="x", datatype="BYTES", shape=(-1,))
    converted = FrameConverter(declared, region, size, 1 << 22).convert(frame())
    with Image.open(io.BytesIO(bytes(converted.data))) as picture:
        pixels = np.asarray(picture)
    area = input_area(None, region, size, WIDTH, HEIGHT)
    assert (area.input_width, area.input_height) == (pixels.shape[1], pixels.shape[0])
    assert_same(area, spot(pixels))
