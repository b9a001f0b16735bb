"""Broken and lying frames are refused before they take memory or time."""

import time
from random import Random

import av
import pytest
from PIL import Image

from sluice.config.tensors import TensorInput
from sluice.config.video import FrameSize, Region
from sluice.contract.video import VideoReason
from tests.mutation import mutated
from tests.sluice.images.image_files import (
    PROGRESSIVE,
    frame_header,
    segment,
    with_frame_header,
    with_segments,
)
from tests.sluice.images.pictures import encoded, gradient_image, image_input
from video.conversion import FrameConverter, FrameError, PictureConverter
from video.frame import DecodedImage, EncodedImage

JPEG = encoded(gradient_image(64, 48), "JPEG")
JPEG_INPUT = TensorInput(name="jpeg", datatype="BYTES", shape=(-1,))
MAX_PIXELS = 10_000


def refusal(
    frame: EncodedImage | DecodedImage, declared: TensorInput, max_pixels: int = MAX_PIXELS
) -> FrameError:
    """The error for a frame."""
    with pytest.raises(FrameError) as caught:
        FrameConverter(declared, None, None, max_pixels).convert(frame)
    return caught.value


@pytest.mark.parametrize("declared", [image_input(), JPEG_INPUT], ids=["tensor", "JPEG"])
@pytest.mark.parametrize(
    ("data", "detail"),
    [
        pytest.param(b"", "is not a JPEG", id="empty"),
        pytest.param(encoded(gradient_image(), "PNG"), "is not a JPEG", id="PNG"),
        pytest.param(JPEG[:100], "is not valid", id="half of the header"),
        pytest.param(with_frame_header(b""), "first scan is not valid", id="no frame header"),
        pytest.param(with_segments(b"\xff\xfe\0\2" * 2000), "at most 1024 segments", id="segments"),
        pytest.param(PROGRESSIVE[:-2] + PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda"):-2] * 2000
                     + b"\xff\xd9", "segments|scans", id="scans"),
    ],
)  # fmt: skip
def test_a_broken_jpeg_is_refused_before_it_is_decoded(
    data: bytes, detail: str, declared: TensorInput
) -> None:
    error = refusal(EncodedImage(data), declared)
    assert error.reason == VideoReason.BROKEN_FRAME
    assert detail in error.detail or any(each in error.detail for each in detail.split("|"))


def test_a_progressive_jpeg_may_have_few_scans_only() -> None:
    last = PROGRESSIVE.rindex(b"\xff\xda")
    data = PROGRESSIVE[:-2] + PROGRESSIVE[last:-2] * 40 + b"\xff\xd9"
    error = refusal(EncodedImage(data), JPEG_INPUT, 16 * 12)
    assert (error.reason, error.detail) == (
        VideoReason.BROKEN_FRAME, "the JPEG has too many scans for its size",
    )  # fmt: skip
    FrameConverter(JPEG_INPUT, None, None, 16 * 12).convert(EncodedImage(PROGRESSIVE))


@pytest.mark.parametrize("declared", [image_input(), JPEG_INPUT], ids=["tensor", "JPEG"])
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(
            EncodedImage(with_frame_header(frame_header(0xC0, 60_000, 60_000))), id="JPEG"
        ),
        pytest.param(DecodedImage(av.VideoFrame(101, 100, "yuv420p")), id="decoded"),
    ],
)
def test_a_frame_with_too_many_pixels_is_refused(
    frame: EncodedImage | DecodedImage, declared: TensorInput
) -> None:
    start = time.process_time()
    error = refusal(frame, declared)
    assert error.reason == VideoReason.TOO_MANY_PIXELS
    assert error.detail.endswith("a frame must have at most 10000 pixels")
    assert time.process_time() - start < 0.1
    with pytest.raises(FrameError):
        PictureConverter(Region(), None, MAX_PIXELS).pixels(frame)


@pytest.mark.parametrize("end", [0.4, 0.7, 0.95])
def test_a_truncated_jpeg_is_refused_if_it_is_decoded(end: float) -> None:
    frame = EncodedImage(JPEG[: int(end * len(JPEG))])
    error = refusal(frame, image_input())
    assert error.reason == VideoReason.BROKEN_FRAME
    assert "cannot be decoded" in error.detail
    with pytest.raises(FrameError):
        PictureConverter(Region(), FrameSize(width=16, height=16), MAX_PIXELS).jpeg(frame)


def test_a_broken_frame_does_not_break_the_next() -> None:
    converter = FrameConverter(image_input(), None, None, MAX_PIXELS)
    wanted = bytes(converter.convert(EncodedImage(JPEG)).data)
    for data in (b"", JPEG[:-300], with_segments(segment(0xFE, bytes(10)) * 2000, JPEG)):
        with pytest.raises(FrameError):
            converter.convert(EncodedImage(data))
        assert bytes(converter.convert(EncodedImage(JPEG)).data) == wanted


def test_a_jpeg_with_rare_colors_is_decoded() -> None:
    image = Image.new("RGB", (64, 48), (200, 100, 50))
    frame = EncodedImage(encoded(image.convert("CMYK"), "JPEG"))
    converted = FrameConverter(image_input(), None, None, MAX_PIXELS).convert(frame)
    assert abs(converted.data[0] - 200) <= 4


@pytest.mark.parametrize("kind", ["nv12", "rgb24", "pal8", "yuyv422", "rgbf32le", "yaf32le"])
def test_a_pixel_format_that_no_decoder_delivers_is_refused(kind: str) -> None:
    frame = DecodedImage(av.VideoFrame(64, 48, kind))
    for declared in (image_input(), image_input(color="GRAY"), JPEG_INPUT):
        error = refusal(frame, declared)
        assert error.reason == VideoReason.BROKEN_FRAME
        assert error.detail == f"the pixel format {kind} is not supported"


def test_a_damaged_jpeg_is_converted_or_refused() -> None:
    source, corpus = Random(7), [JPEG, PROGRESSIVE, encoded(gradient_image(), "JPEG", quality=50)]
    converters = [
        FrameConverter(image_input(), Region(width=0.4), None, MAX_PIXELS),
        FrameConverter(JPEG_INPUT, Region(width=0.4), None, MAX_PIXELS),
    ]
    refused = 0
    for number in range(600):
        frame = EncodedImage(bytes(mutated(corpus[number % 3], source, corpus)))
        try:
            converters[number % 2].convert(frame)
        except FrameError:
            refused += 1
    assert 100 < refused < 500
