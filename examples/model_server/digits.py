"""The image classifier: images of digits to ten probabilities. `examples.train` trains it.

The classifier reduces an image to 8x8 cells, the size of the training data. It does not decode JPEG
or PNG.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .model import WEIGHTS, single_input
from .tensors import Array, InvalidInputError, Tensor, TensorSpec

Floats = npt.NDArray[np.float32]

CELLS = 8
# MAX_SIDE and MAX_BATCH bound the memory of a request.
MAX_SIDE = 1024
MAX_BATCH = 64
_CHANNELS = (1, 3)
# ITU-R BT.601 luma, as in the Y channel of JPEG.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def to_cells(images: Array) -> Floats:
    """Gray images [n, H, W] to cells [n, 64] from 0 to 1, with a bright digit on a dark background.

    The contrast of each image is stretched to the whole range, so the values may have any scale. An
    image with a bright border is inverted, because its digit is dark.
    """
    gray = images.astype(np.float32)
    rows, columns = _area_average(gray.shape[1]), _area_average(gray.shape[2])
    small = rows @ gray @ columns.T
    low = small.min(axis=(1, 2), keepdims=True)
    span = small.max(axis=(1, 2), keepdims=True) - low
    small = (small - low) / np.where(span > 0, span, 1)
    border = np.concatenate([small[:, (0, -1), :], small[:, :, (0, -1)].swapaxes(1, 2)], axis=1)
    dark_digit = np.median(border, axis=(1, 2)) > 0.5
    small[dark_digit] = 1 - small[dark_digit]
    flat: Floats = small.reshape(len(small), CELLS * CELLS)
    return flat


@lru_cache(maxsize=64)
def _area_average(size: int) -> Floats:
    """Matrix [8, size]. Row i averages the pixels of cell i; pixels at an edge count in part."""
    edges = np.linspace(0, size, CELLS + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    matrix: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


def to_gray(image: Tensor) -> Floats:
    """Luma [n, H, W] of a UINT8 or FP32 tensor in NHWC or NCHW with 1 or 3 channels."""
    if image.datatype not in ("UINT8", "FP32"):
        raise InvalidInputError(f"input 'image': expected UINT8 or FP32, got {image.datatype}")
    shape = list(image.data.shape)
    if len(shape) != 4 or not (shape[3] in _CHANNELS or shape[1] in _CHANNELS):
        raise InvalidInputError(
            f"input 'image': expected shape [n, H, W, 1 or 3] or [n, 1 or 3, H, W], got {shape}"
        )
    pixels = image.data.astype(np.float32)
    if shape[3] not in _CHANNELS:
        pixels = pixels.transpose(0, 2, 3, 1)
    count, height, width, channels = pixels.shape
    if not (CELLS <= height <= MAX_SIDE and CELLS <= width <= MAX_SIDE):
        raise InvalidInputError(
            f"input 'image': height and width must be {CELLS} to {MAX_SIDE}, got {shape}"
        )
    if not 1 <= count <= MAX_BATCH:
        raise InvalidInputError(
            f"input 'image': a batch must have 1 to {MAX_BATCH} images, got {count}"
        )
    if not np.isfinite(pixels).all():
        raise InvalidInputError("input 'image': every value must be finite")
    gray: Floats = pixels @ _LUMA if channels == len(_LUMA) else pixels[..., 0]
    return gray


class DigitClassifier:
    """Layers of weights on 64 cells. v1 is a softmax regression; v2 has one hidden layer."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("image", "UINT8", (-1, 32, 32, 1)),)
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec("label", "INT64", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, 10)),
    )

    def __init__(self, layers: Sequence[tuple[Floats, Floats]]) -> None:
        self.layers = layers

    @classmethod
    def load(cls, version: str) -> "DigitClassifier":
        """Reads the weights of a version; raises FileNotFoundError if there is no such version."""
        with np.load(WEIGHTS / f"digits-{version}.npz") as stored:
            depth = len(stored.files) // 2
            return cls(
                [
                    (
                        stored[f"weights_{i}"].astype(np.float32),
                        stored[f"bias_{i}"].astype(np.float32),
                    )
                    for i in range(depth)
                ]
            )

    def probabilities(self, features: Floats) -> Floats:
        """Cells [n, 64] to probabilities [n, 10]."""
        *hidden, (weights, bias) = self.layers
        for inner_weights, inner_bias in hidden:
            features = np.maximum(features @ inner_weights + inner_bias, 0)
        logits = features @ weights + bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: Floats = powers / powers.sum(axis=1, keepdims=True)
        return result

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`label` INT64 [n] and `probabilities` FP32 [n, 10]."""
        probabilities = self.probabilities(to_cells(to_gray(single_input(inputs, "image"))))
        return (
            Tensor("label", "INT64", probabilities.argmax(axis=1).astype(np.int64)),
            Tensor("probabilities", "FP32", probabilities),
        )
