"""The image classifier: pictures of digits to ten probabilities, weighted by `examples.train`.

Any picture is reduced to the 8x8 cells that the training data have; decoding JPEG or PNG is the
client's, or the gateway's, affair.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .model import WEIGHTS, only_input
from .tensors import Array, InvalidInputError, Tensor, TensorSpec

Floats = npt.NDArray[np.float32]

CELLS = 8
# A batch above either bound would cost more memory than an example should take.
MAX_SIDE = 1024
MAX_BATCH = 64
_CHANNELS = (1, 3)
# ITU-R BT.601 luma, which is also what JPEG's Y channel means.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def cells(pictures: Array) -> Floats:
    """[n, H, W] grey pictures of any scale to [n, 64] cells in 0..1, bright stroke on dark ground.

    Each picture's contrast is stretched to the whole range, so 0..255, 0..1 and normalised values
    all read alike; one whose border is bright is ink on paper, and is inverted.
    """
    grey = pictures.astype(np.float32)
    rows, columns = _area_average(grey.shape[1]), _area_average(grey.shape[2])
    small = rows @ grey @ columns.T
    low = small.min(axis=(1, 2), keepdims=True)
    span = small.max(axis=(1, 2), keepdims=True) - low
    small = (small - low) / np.where(span > 0, span, 1)
    border = np.concatenate([small[:, (0, -1), :], small[:, :, (0, -1)].swapaxes(1, 2)], axis=1)
    on_paper = np.median(border, axis=(1, 2)) > 0.5
    small[on_paper] = 1 - small[on_paper]
    flat: Floats = small.reshape(len(small), CELLS * CELLS)
    return flat


@lru_cache(maxsize=64)
def _area_average(size: int) -> Floats:
    """[8, size] matrix whose row i averages the pixels that cell i covers, in part or whole."""
    edges = np.linspace(0, size, CELLS + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    matrix: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


def grey_pictures(image: Tensor) -> Floats:
    """[n, H, W] luma of a UINT8 or FP32 tensor in NHWC or NCHW with 1 or 3 channels."""
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
            f"input 'image': a batch holds 1 to {MAX_BATCH} pictures, got {count}"
        )
    if not np.isfinite(pixels).all():
        raise InvalidInputError("input 'image': a value is not finite")
    grey: Floats = pixels @ _LUMA if channels == len(_LUMA) else pixels[..., 0]
    return grey


class Digits:
    """Layers of weights over 64 cells: v1 has one (softmax regression), v2 a hidden layer more."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("image", "UINT8", (-1, 32, 32, 1)),)
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec("label", "INT64", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, 10)),
    )

    def __init__(self, layers: Sequence[tuple[Floats, Floats]]) -> None:
        self.layers = layers

    @classmethod
    def load(cls, version: str) -> "Digits":
        """Reads the weights that ship here; FileNotFoundError for no such version."""
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
        """[n, 64] cells to [n, 10] probabilities."""
        *hidden, (weights, bias) = self.layers
        for inner_weights, inner_bias in hidden:
            features = np.maximum(features @ inner_weights + inner_bias, 0)
        logits = features @ weights + bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: Floats = powers / powers.sum(axis=1, keepdims=True)
        return result

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`label` INT64 [n] and `probabilities` FP32 [n, 10]."""
        found = self.probabilities(cells(grey_pictures(only_input(inputs, "image"))))
        return (
            Tensor("label", "INT64", found.argmax(axis=1).astype(np.int64)),
            Tensor("probabilities", "FP32", found),
        )
