"""A film of digits (H.264 in MP4): each second shows the next digit, and each frame its number.

The digit stands on white in `DIGIT`, before a background that moves. Programs can read the number
of the frame in `frame_number.REGION`.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from examples.model_server.digits import DigitClassifier, Floats, to_cells

from . import digits, frame_number

Region = Mapping[str, float]

DIGIT: Region = {"left": 0.2, "top": 0.075, "width": 0.6, "height": 0.8}
"""The part of the frame with the digit, in shares of its width and height."""

_WAVE_CELLS = 64
"""Width and height of the background before it is enlarged."""

Pixels = npt.NDArray[np.uint8]


def write(
    path: Path,
    *,
    seconds: int = 10,
    width: int = 640,
    height: int = 480,
    rate: int = 30,
    noise: float = 0.0,
    options: Mapping[str, str] | None = None,
) -> None:
    """Write a film. `noise`: standard deviation of the noise of the sensor of a camera.

    One version of the encoder always writes the same bytes. `options` are options of libx264.
    """
    flags = {"fflags": "+bitexact", "movflags": "+faststart"}
    settings = {"crf": "28", "preset": "slow", "bf": "0", "g": str(rate), "flags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=flags) as film:
        stream = film.add_stream("libx264", rate=rate, options={**settings, **(options or {})})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # The output of several threads differs from that of one.
        stream.codec_context.thread_count = 1
        for number, pixels in enumerate(frames(seconds * rate, width, height, rate, noise)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def frames(count: int, width: int, height: int, rate: int, noise: float) -> Iterator[Pixels]:
    """The frames of a film, each [H, W, 3] in RGB."""
    panels = [_panel(cells, width, height) for cells in _readable_digits()]
    top, left = round(DIGIT["top"] * height), round(DIGIT["left"] * width)
    random = np.random.default_rng(digits.SEED)
    grain = random.normal(0, noise, (height, 2 * width)).round().astype(np.int16)
    for number in range(count):
        pixels = _background(number / rate, width, height)
        panel = panels[digit_of(number, rate)]
        pixels[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        if noise:
            shifted = np.roll(grain, random.integers(grain.size))[:, :width, None]
            pixels = (pixels + shifted).clip(0, 255).astype(np.uint8)
        frame_number.draw(pixels, number)
        yield pixels


def digit_of(number: int, rate: int) -> int:
    """The digit that a frame shows."""
    return number // rate % 10


def _readable_digits() -> Iterator[Floats]:
    """The image of each digit in the test data that both versions of the model read best."""
    _, _, images, labels = digits.split_images()
    models = [DigitClassifier.load(version) for version in ("v1", "v2")]
    scores = np.min([model.probabilities(to_cells(images)) for model in models], axis=0)
    for digit in range(10):
        own = labels == digit
        yield images[own][scores[own, digit].argmax()]


def _panel(cells: Floats, width: int, height: int) -> Pixels:
    size = (round(DIGIT["width"] * width), round(DIGIT["height"] * height))
    return np.asarray(digits.to_image(cells).resize(size, Image.Resampling.BICUBIC))


def _background(time: float, width: int, height: int) -> Pixels:
    """Waves of colour that move. `time` in seconds."""
    y, x = np.mgrid[0 : 1 : 1 / _WAVE_CELLS, 0 : 1 : 1 / _WAVE_CELLS]
    phases = (8 * x + 0.9 * time, 6 * (x + y) - 0.7 * time + 2, 7 * y + 0.5 * time + 4)
    waves = Image.fromarray((104 + 40 * np.sin(np.stack(phases, axis=-1))).astype(np.uint8))
    return np.array(waves.resize((width, height), Image.Resampling.BICUBIC))
