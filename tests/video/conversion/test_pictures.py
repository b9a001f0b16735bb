"""Frames become JPEG for models that take it, and pixels for people."""

import numpy as np
import pytest
import simplejpeg
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from sluice.config.tensors import TensorInput
from sluice.config.video import FrameSize, Region
from sluice.images.geometry import apply_orientation
from tests.sluice.images.pictures import encoded, exif, gradient_image
from tests.video.conversion.frames import decoded, from_h264
from video.conversion import FrameConverter, PictureConverter
from video.frame import DecodedImage, EncodedImage

JPEG_INPUT = TensorInput(name="jpeg", datatype="BYTES", shape=(-1,))
MAX_PIXELS = 1 << 21
PICTURE = gradient_image(320, 240)
RIGHT_TOP = Region(left=0.5, width=0.5, height=0.5)


def jpeg(
    frame: EncodedImage | DecodedImage,
    region: Region | None = None,
    size: tuple[int, int] | None = None,
) -> bytes:
    """The JPEG that a model gets."""
    limit = None if size is None else FrameSize(width=size[0], height=size[1])
    converted = FrameConverter(JPEG_INPUT, region, limit, MAX_PIXELS).convert(frame)
    assert (converted.shape, converted.width * converted.height) == ((), 320 * 240)
    return bytes(converted.data)


def difference(data: bytes, wanted: Image.Image) -> int:
    pixels = simplejpeg.decode_jpeg(data)
    assert pixels.shape == (wanted.height, wanted.width, 3)
    return int(np.abs(pixels.astype(int) - np.asarray(wanted)).max())


@pytest.mark.parametrize("size", [None, (320, 320), (1000, 1000)])
def test_a_jpeg_that_need_not_change_is_passed_on_unchanged(size: tuple[int, int] | None) -> None:
    # Its coded data end too early, so it cannot be decoded.
    data = encoded(PICTURE, "JPEG", exif=exif(6))[:-300]
    assert jpeg(EncodedImage(data), None, size) is data


@pytest.mark.parametrize("frame", [EncodedImage(encoded(PICTURE, "JPEG")), decoded(PICTURE)])
def test_a_region_is_cut_out(frame: EncodedImage | DecodedImage) -> None:
    assert difference(jpeg(frame, RIGHT_TOP), PICTURE.crop((160, 0, 320, 120))) <= 14


@pytest.mark.parametrize("frame", [EncodedImage(encoded(PICTURE, "JPEG")), decoded(PICTURE)])
def test_a_larger_frame_is_scaled_down_with_its_aspect_ratio(
    frame: EncodedImage | DecodedImage,
) -> None:
    smaller = PICTURE.resize((100, 75), Image.Resampling.BILINEAR)
    assert difference(jpeg(frame, None, (100, 90)), smaller) <= 16
    smaller = PICTURE.crop((160, 0, 320, 120)).resize((40, 30), Image.Resampling.BILINEAR)
    assert difference(jpeg(frame, RIGHT_TOP, (500, 30)), smaller) <= 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_changed_jpeg_is_upright(orientation: int) -> None:
    frame = EncodedImage(encoded(PICTURE, "JPEG", exif=exif(orientation)))
    upright = Image.fromarray(apply_orientation(np.asarray(PICTURE), orientation))
    limit = (100, 1000)
    size = (100, round(upright.height * 100 / upright.width))
    wanted = upright.resize(size, Image.Resampling.BILINEAR)
    assert difference(jpeg(frame, None, limit), wanted) <= 16


@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("kind", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_a_decoded_frame_becomes_a_jpeg_of_its_colors(
    matrix: Colorspace, color_range: ColorRange, kind: str
) -> None:
    assert difference(jpeg(decoded(PICTURE, kind, matrix, color_range)), PICTURE) <= 14


def test_a_turned_frame_becomes_an_upright_jpeg() -> None:
    frame = from_h264(PICTURE, "display_orientation=insert:rotate=90")
    upright = PICTURE.rotate(90, expand=True)
    assert difference(jpeg(frame), upright) <= 14
    assert difference(jpeg(frame, Region(width=0.5)), upright.crop((0, 0, 120, 320))) <= 14


@pytest.mark.parametrize("frame", [EncodedImage(encoded(PICTURE, "JPEG")), decoded(PICTURE)])
def test_a_picture_has_the_pixels_of_the_frame(frame: EncodedImage | DecodedImage) -> None:
    pixels = PictureConverter(Region(), None, MAX_PIXELS).pixels(frame)
    assert np.abs(pixels.astype(int) - np.asarray(PICTURE)).max() <= 14
    limit = FrameSize(width=32, height=1000)
    pixels = PictureConverter(RIGHT_TOP, limit, MAX_PIXELS).pixels(frame)
    wanted = PICTURE.crop((160, 0, 320, 120)).resize((32, 24), Image.Resampling.BILINEAR)
    assert np.abs(pixels.astype(int) - np.asarray(wanted)).max() <= 16


def test_a_frame_without_a_matrix_has_the_usual_one_for_its_size() -> None:
    color = (200, 40, 90)
    for size, matrix in [((640, 480), Colorspace.ITU601), ((1280, 720), Colorspace.ITU709)]:
        frame = decoded(Image.new("RGB", size, color), "yuv420p", matrix).frame
        frame.colorspace = 2
        pixels = PictureConverter(Region(), None, MAX_PIXELS).pixels(DecodedImage(frame))
        assert np.abs(pixels[9, 9].astype(int) - color).max() <= 3
