"""Training, evaluation and storage of the digit classifiers, and their image data."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from examples.model_server.digits import DigitClassifier, Floats, to_cells
from examples.model_server.model import WEIGHTS

SEED = 7
TEST_FRACTION = 0.25
IMAGE_SIDE = 224
# Axis and distance, in cells, of the shifts that the training of v2 adds.
_SHIFTS = ((1, -0.5), (1, 0.5), (2, -0.5), (2, 0.5))

Labels = npt.NDArray[np.int64]


def split_images() -> tuple[Floats, Labels, Floats, Labels]:
    """scikit-learn's digits [n, 8, 8] and their labels: training data, then test data."""
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images.astype(np.float32),
        digits.target,
        test_size=TEST_FRACTION,
        random_state=SEED,
        stratify=digits.target,
    )
    return train_images, train_labels, test_images, test_labels


def train(version: str, images: Floats, labels: Labels) -> DigitClassifier:
    """v1: softmax regression. v2: a hidden layer, trained with shifted images too."""
    if version == "v1":
        linear = LogisticRegression(C=1.0, max_iter=2000, random_state=SEED)
        linear.fit(to_cells(images), labels)
        return DigitClassifier([_layer(linear.coef_.T, linear.intercept_)])
    shifted = np.concatenate([images, *(_shift(images, axis, by) for axis, by in _SHIFTS)])
    network = MLPClassifier(hidden_layer_sizes=(96,), alpha=1e-3, max_iter=300, random_state=SEED)
    network.fit(to_cells(shifted), np.tile(labels, 1 + len(_SHIFTS)))
    layers = zip(network.coefs_, network.intercepts_, strict=True)
    return DigitClassifier([_layer(*layer) for layer in layers])


def accuracy(model: DigitClassifier, images: Floats, labels: Labels) -> float:
    """Fraction of the images [n, H, W] that the model labels correctly."""
    return float((model.probabilities(to_cells(images)).argmax(axis=1) == labels).mean())


def to_image(cells: Floats) -> Image.Image:
    """A digit of 8x8 cells as a dark digit on white, 224x224 RGB, as a client would send it."""
    dark = Image.fromarray((255 - cells * (255 / 16)).astype(np.uint8))
    return dark.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC).convert("RGB")


def through_jpeg(images: Floats) -> Floats:
    """Encodes digits as JPEG and decodes them to gray images of 32x32, as the gateway does."""
    decoded = []
    for image in images:
        file = io.BytesIO()
        to_image(image).save(file, "JPEG", quality=85)
        gray = Image.open(file).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
        decoded.append(np.asarray(gray, dtype=np.float32))
    return np.stack(decoded)


def save(version: str, model: DigitClassifier) -> None:
    """Writes the weights and the bias of each layer in half precision."""
    arrays: dict[str, npt.NDArray[np.float16]] = {}
    for position, (weights, bias) in enumerate(model.layers):
        arrays[f"weights_{position}"] = weights.astype(np.float16)
        arrays[f"bias_{position}"] = bias.astype(np.float16)
    np.savez_compressed(WEIGHTS / f"digits-{version}.npz", allow_pickle=False, **arrays)


def _shift(images: Floats, axis: int, by: float) -> Floats:
    """Shifts images by a fraction of a cell along an axis, like images that are off center."""
    shifted: Floats = abs(by) * np.roll(images, 1 if by > 0 else -1, axis) + (1 - abs(by)) * images
    return shifted


def _layer(
    weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]
) -> tuple[Floats, Floats]:
    # `save` rounds the weights too. The accuracy must be the accuracy of the saved weights.
    return (
        weights.astype(np.float16).astype(np.float32),
        bias.astype(np.float16).astype(np.float32),
    )
