"""The example film: its digits and numbers can be read after compression."""

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from examples.model_server.digits import DigitClassifier, to_cells
from examples.train import film, frame_number

FILM = Path(__file__).parents[2] / "examples" / "digits.mp4"
RATE, FRAMES = 30, 300

Gray = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def images() -> list[Gray]:
    """The frames of the film in gray."""
    with av.open(str(FILM)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def part(image: Gray, region: film.Region, size: tuple[int, int]) -> Gray:
    """A part of a frame, scaled as the gateway does."""
    height, width = image.shape
    left, top = region["left"] * width, region["top"] * height
    box = (left, top, left + region["width"] * width, top + region["height"] * height)
    scaled = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(scaled)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_both_models_read_the_digit_of_every_frame(version: str, images: list[Gray]) -> None:
    parts = np.stack([part(image, film.DIGIT, (32, 32)) for image in images])
    found = DigitClassifier.load(version).probabilities(to_cells(parts)).argmax(axis=1)
    assert found.tolist() == [film.digit_of(number, RATE) for number in range(FRAMES)]


@pytest.mark.parametrize("size", [(64, 8), (512, 48)])
def test_the_number_of_every_frame_can_be_read(size: tuple[int, int], images: list[Gray]) -> None:
    bands = (part(image, frame_number.REGION, size) for image in images)
    assert [frame_number.read(band) for band in bands] == list(range(FRAMES))


@given(number=st.integers(0, 1 << 20), width=st.integers(80, 700), height=st.integers(60, 500))
def test_a_number_that_is_drawn_is_read(number: int, width: int, height: int) -> None:
    frame = np.full((height, width, 3), 127, np.uint8)
    frame_number.draw(frame, number)
    band = part(frame[..., 0], frame_number.REGION, (64, 8))
    assert frame_number.read(band) == number % frame_number.MODULUS


def test_a_band_without_contrast_has_no_number() -> None:
    assert frame_number.read(np.full((8, 64), 127, np.uint8)) is None
