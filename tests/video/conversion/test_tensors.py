"""The tensor of a frame is the tensor of a picture with the same pixels."""

import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extproc.convert.image_tensor import ImageReader
from extproc.convert.limits import DEFAULT
from sluice.config.tensors import TensorInput
from sluice.config.video import Region
from sluice.images.geometry import apply_orientation
from sluice.images.normalize import DTYPES
from tests.sluice.images.pictures import encoded, exif, gradient_image, image_input
from tests.video.conversion.frames import decoded, from_h264
from video.conversion import FrameConverter
from video.frame import DecodedImage, EncodedImage

MAX_PIXELS = 1 << 22
JPEG_INPUT = TensorInput(name="jpeg", datatype="BYTES", shape=(-1,))


def of_frame(
    declared: TensorInput, frame: DecodedImage | EncodedImage, region: Region | None = None
) -> np.ndarray:
    """The tensor of a frame."""
    assert declared.image is not None
    converted = FrameConverter(declared, region, None, MAX_PIXELS).convert(frame)
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
@pytest.mark.parametrize("kind", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_the_colors_of_a_frame_become_those_of_a_picture(
    matrix: Colorspace, color_range: ColorRange, kind: str, color: str
) -> None:
    image = gradient_image(320, 240)
    declared = image_input(color=color)
    frame = decoded(image, kind, matrix, color_range)
    assert difference(of_frame(declared, frame), of_picture(declared, image)) <= 4


@pytest.mark.parametrize(
    "kind", ["gray8", "gbrp", "yuvj420p", "yuvj422p", "yuv411p", "yuv422p10le"]
)
def test_the_pixel_formats_of_decoders_are_converted(kind: str) -> None:
    image = gradient_image(64, 48)
    if kind == "gray8":
        image = image.convert("L").convert("RGB")
    color_range = ColorRange.JPEG if kind.startswith(("yuvj", "g")) else ColorRange.MPEG
    frame = decoded(image, kind, color_range=color_range)
    declared, region = image_input(), Region(left=0.25, top=0.25, width=0.5, height=0.5)
    assert difference(of_frame(declared, frame), of_picture(declared, image)) <= 5
    part = image.crop((16, 12, 48, 36))
    assert difference(of_frame(declared, frame, region), of_picture(declared, part)) <= 8


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(20, 15), (100, 75), (300, 200)])
def test_the_declared_interpolation_is_used(interpolation: str, size: tuple[int, int]) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (12, 16, 3))
    image = Image.fromarray(np.kron(blocks, np.ones((10, 10, 1))).astype(np.uint8))
    declared = image_input(interpolation=interpolation, width=size[0], height=size[1])
    found, wanted = of_frame(declared, decoded(image)), of_picture(declared, image)
    # swscale's bicubic filter has other parameters, and it does not clip between two steps.
    assert difference(found, wanted) <= (8 if interpolation in ("nearest", "bilinear") else 30)
    assert np.abs(found.astype(int) - wanted).mean() <= 2


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "BF16", "INT8"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_values_are_normalized_like_those_of_a_picture(datatype: str, layout: str) -> None:
    image = Image.new("RGB", (64, 48), (200, 100, 50))
    declared = image_input(datatype, layout=layout, scale=0.25, mean=(1.0, 2.0, 3.0), std=(2.0,))
    found, wanted = of_frame(declared, decoded(image)), of_picture(declared, image)
    if datatype == "BF16":
        found, wanted = ((v.astype(np.uint32) << 16).view(np.float32) for v in (found, wanted))
    assert difference(found, wanted) <= 0.5


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (16, 12)])
def test_a_frame_of_h264_is_converted(size: tuple[int, int]) -> None:
    image, declared = gradient_image(*size), image_input("FP32", layout="NCHW", scale=1 / 255)
    assert difference(of_frame(declared, from_h264(image)), of_picture(declared, image)) < 0.03


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_frame_is_turned_upright(degrees: int, resize: str) -> None:
    image, declared = gradient_image(64, 48), image_input(resize=resize)
    frame = from_h264(image, f"display_orientation=insert:rotate={degrees}")
    upright = image.rotate(degrees, expand=True)
    assert difference(of_frame(declared, frame), of_picture(declared, upright)) <= 6
    region = Region(width=0.5)
    part = upright.crop((0, 0, upright.width // 2, upright.height))
    assert difference(of_frame(declared, frame, region), of_picture(declared, part)) <= 6


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_frame_has_the_tensor_of_the_jpeg(
    resize: str, datatype: str, orientation: int
) -> None:
    image, declared = gradient_image(640, 480), image_input(datatype, resize=resize)
    data = encoded(image, "JPEG", exif=exif(orientation))
    tensor = ImageReader(declared, DEFAULT).prepare([data], ["body"]).tensor()
    assert of_frame(declared, EncodedImage(data)).tobytes() == bytes(tensor.data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_of_a_jpeg_frame_is_that_of_the_upright_image(orientation: int) -> None:
    image, declared = gradient_image(640, 480), image_input()
    region = Region(left=0.5, top=0.25, width=0.25, height=0.75)
    frame = EncodedImage(encoded(image, "JPEG", exif=exif(orientation)))
    upright = Image.fromarray(apply_orientation(np.asarray(image), orientation))
    width, height = upright.size
    part = upright.crop((width // 2, height // 4, width * 3 // 4, height))
    assert difference(of_frame(declared, frame, region), of_picture(declared, part)) <= 14


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    resize=st.sampled_from(("stretch", "crop", "pad")),
    color=st.sampled_from(("RGB", "GRAY")),
    kind=st.sampled_from(("yuv420p", "yuv444p")),
    left=st.floats(0, 0.9),
    width=st.floats(0.1, 1),
)
def test_a_frame_of_any_size_keeps_its_color(
    size: tuple[int, int],
    target: tuple[int, int],
    resize: str,
    color: str,
    kind: str,
    left: float,
    width: float,
) -> None:
    image = Image.new("RGB", size, (200, 100, 50))
    declared = image_input(
        width=target[0], height=target[1], resize=resize, color=color, background=(200, 100, 50)
    )
    region = Region(left=left, width=min(width, 1 - left))
    tensor = of_frame(declared, decoded(image, kind), region)
    wanted = (200, 100, 50) if color == "RGB" else (124,)
    assert difference(tensor, np.array(wanted)) <= 3


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_a_part_between_pixels_is_scaled_like_that_of_a_picture(
    interpolation: str, color: str
) -> None:
    image = gradient_image(853, 480)
    declared = image_input(
        width=100, height=100, resize="crop", interpolation=interpolation, color=color
    )
    assert difference(of_frame(declared, decoded(image)), of_picture(declared, image)) <= 4


@pytest.mark.parametrize("declared", [image_input(), JPEG_INPUT], ids=["tensor", "JPEG"])
@pytest.mark.parametrize("region", [Region(), Region(width=0.25)])
@pytest.mark.parametrize(
    "frame",
    [
        EncodedImage(encoded(gradient_image(60, 40), "JPEG", exif=exif(6))),
        from_h264(gradient_image(60, 40), "display_orientation=insert:rotate=270"),
    ],
    ids=["JPEG", "H.264"],
)
def test_the_size_of_a_frame_is_that_of_the_whole_upright_frame(
    declared: TensorInput, region: Region, frame: DecodedImage | EncodedImage
) -> None:
    converted = FrameConverter(declared, region, None, MAX_PIXELS).convert(frame)
    assert (converted.width, converted.height) == (40, 60)


def test_the_size_of_frames_may_change() -> None:
    declared = image_input(resize="crop")
    converter = FrameConverter(declared, None, None, MAX_PIXELS)
    for size in [(64, 48), (320, 240), *((n, 50) for n in range(20, 60)), (64, 48)]:
        image = gradient_image(*size)
        for frame in (decoded(image), EncodedImage(encoded(image, "JPEG"))):
            converted = converter.convert(frame)
            assert (converted.width, converted.height) == size
            assert converted.shape == (12, 16, 3)
            values = np.frombuffer(converted.data, "u1").reshape(converted.shape)
            # libjpeg scales blocks of pixels, but Pillow interpolates.
            assert difference(values, of_picture(declared, image)) <= 24
