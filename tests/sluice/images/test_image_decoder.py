"""An image is decoded to the declared size. A damaged one is an error without a reason."""

import numpy as np
import pytest

from sluice.config.tensors import ImageInput
from sluice.images.geometry import Fit
from sluice.images.header import BrokenImageError, TooManySegmentsError
from sluice.images.image_decoder import ImageDecoder
from sluice.images.jpeg_structure import read_jpeg
from tests.sluice.images.image_files import segment, with_segments
from tests.sluice.images.pictures import encoded, exif, gradient_image

IMAGE = ImageInput.model_validate({"width": 16, "height": 12})


def test_the_header_has_size_and_orientation() -> None:
    header = read_jpeg(encoded(gradient_image(40, 24), "JPEG", exif=exif(6)), 100)
    assert (header.width, header.height, header.orientation) == (40, 24, 6)
    assert header.pixels == 40 * 24
    assert header.scalable


def test_segments_are_counted() -> None:
    data = with_segments(segment(0xFE, b"a") * 50)
    assert read_jpeg(data, 100).width == 16
    with pytest.raises(TooManySegmentsError):
        read_jpeg(data, 50)


def test_an_image_of_the_declared_size_is_decoded_into_the_buffer() -> None:
    decoder, buffer = ImageDecoder(IMAGE), np.zeros((12, 16, 3), np.uint8)
    header = read_jpeg(encoded(gradient_image(16, 12), "JPEG"), 100)
    assert decoder.keeps_size(header)
    assert decoder.decode(header, buffer) is buffer
    assert (buffer == decoder.decode(header)).all()


def test_the_caller_may_choose_what_is_decoded() -> None:
    header = read_jpeg(encoded(gradient_image(64, 48), "JPEG"), 100)

    def left_half(width: int, height: int, orientation: int) -> Fit:
        return Fit((width, height), (0.0, 0.0, width / 2, float(height)), 16, 12)

    pixels = ImageDecoder(IMAGE, left_half).decode(header)
    wanted = np.asarray(gradient_image(64, 48).resize((16, 12), box=(0, 0, 32, 48)))
    assert np.abs(pixels.astype(int) - wanted).max() <= 14


def test_damaged_data_are_an_error_that_says_why() -> None:
    data = encoded(gradient_image(64, 48), "JPEG")
    header = read_jpeg(data[: len(data) // 2], 100)
    with pytest.raises(BrokenImageError, match="cannot be decoded: Premature end"):
        ImageDecoder(IMAGE).decode(header)
