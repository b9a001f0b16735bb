"""The tensor of a frame is the tensor of a picture with the same pixels."""

import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from extproc.convert.image_tensor import ImageReader
from extproc.convert.limits import DEFAULT
from sluice.config.tensors import TensorInput
from sluice.images.normalize import DTYPES
from tests.sluice.images.pictures import encoded, gradient_image, image_input
from tests.video.conversion.frames import decoded
from video.conversion import FrameConverter
from video.frame import DecodedImage, EncodedImage

MAX_PIXELS = 1 << 22


def of_frame(declared: TensorInput, frame: DecodedImage | EncodedImage) -> np.ndarray:
    """The tensor of a frame."""
    assert declared.image is not None
    converted = FrameConverter(declared, None, None, MAX_PIXELS).convert(frame)
    values = np.frombuffer(converted.data, DTYPES[declared.datatype])
    return values.reshape(declared.image.shape)


def of_picture(declared: TensorInput, image: Image.Image, kind: str = "PNG") -> np.ndarray:
    """The tensor that the gateway makes of a picture."""
    assert declared.image is not None
    tensor = ImageReader(declared, DEFAULT).prepare([encoded(image, kind)], ["body"]).tensor()
    values = np.frombuffer(tensor.data, DTYPES[declared.datatype])
    return values.reshape(declared.image.shape)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).max())


@pytest.mark.parametrize("size", [(64, 48), (640, 480), (333, 101), (16, 12), (8, 5)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_frame_is_fitted_like_a_picture(
    size: tuple[int, int], resize: str, color: str, layout: str
) -> None:
    image = gradient_image(*size)
    declared = image_input(resize=resize, color=color, layout=layout, background=(9, 80, 200))
    assert difference(of_frame(declared, decoded(image)), of_picture(declared, image)) <= 4


@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709, Colorspace.BT2020])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("kind", ["yuv420p", "yuv444p", "yuv420p10le", "nv12"])
@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_the_colors_of_a_frame_become_those_of_a_picture(
    matrix: Colorspace, color_range: ColorRange, kind: str, color: str
) -> None:
    image = gradient_image(320, 240)
    declared = image_input(color=color)
    frame = decoded(image, kind, matrix, color_range)
    assert difference(of_frame(declared, frame), of_picture(declared, image)) <= 4
