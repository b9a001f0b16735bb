"""Trains the example models and prints how they do on data held out: `python -m examples.train`.

Needs scikit-learn (in the development group); the server needs only the .npz files written here.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from examples.model_server.digits import Digits, Floats, cells
from examples.model_server.model import WEIGHTS
from examples.model_server.sentiment import Sentiment

HERE = Path(__file__).resolve().parent
SEED = 7
HELD_OUT = 0.25
PICTURE_SIDE = 224

Sentence = tuple[str, bool]
Labels = npt.NDArray[np.int64]


def sentences(file: str) -> list[Sentence]:
    """The labelled sentences of a file in data/, as (text, is positive)."""
    lines = (HERE / "data" / file).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines if not line.startswith("#")]
    return [(text, sign == "+") for sign, text in pairs]


def polar_words() -> dict[str, int]:
    """Words that praise (+1) or blame (-1)."""
    found = {}
    for line in (HERE / "data" / "polarity.txt").read_text(encoding="utf-8").splitlines():
        sign, *listed = line.split()
        if sign in "+-":
            found.update(dict.fromkeys(listed, 1 if sign == "+" else -1))
    return found


def train_sentiment(version: str, rows: Sequence[Sentence]) -> Sentiment:
    """Logistic regression over the features of `version`."""
    polarity = polar_words()
    reader = Sentiment(version, {}, 0.0, polarity)
    vectorizer = DictVectorizer(sparse=True)
    counted = vectorizer.fit_transform([_log_counts(reader.features(text)) for text, _ in rows])
    fitted = LogisticRegression(C=4.0, max_iter=1000, random_state=SEED)
    fitted.fit(counted, [positive for _, positive in rows])
    names = vectorizer.get_feature_names_out().tolist()
    weights = dict(zip(names, fitted.coef_[0].astype(np.float32).tolist(), strict=True))
    return Sentiment(version, weights, float(fitted.intercept_[0]), polarity)


def _log_counts(features: Iterable[str]) -> dict[str, float]:
    counts: dict[str, int] = {}
    for feature in features:
        counts[feature] = counts.get(feature, 0) + 1
    return {feature: float(np.log1p(count)) for feature, count in counts.items()}


def sentiment_accuracy(model: Sentiment, rows: Sequence[Sentence]) -> float:
    """Share of `rows` that the model labels right."""
    return sum((model.score(text) >= 0.5) == positive for text, positive in rows) / len(rows)


def pictures() -> tuple[Floats, Labels, Floats, Labels]:
    """scikit-learn's digits, [n, 8, 8] and labels: training, then held-out."""
    digits = load_digits()
    train, test, train_labels, test_labels = train_test_split(
        digits.images.astype(np.float32),
        digits.target,
        test_size=HELD_OUT,
        random_state=SEED,
        stratify=digits.target,
    )
    return train, train_labels, test, test_labels


def train_digits(version: str, images: Floats, labels: Labels) -> Digits:
    """v1: softmax regression; v2: a hidden layer, taught with every picture shifted as well."""
    if version == "v1":
        linear = LogisticRegression(C=1.0, max_iter=2000, random_state=SEED)
        linear.fit(cells(images), labels)
        return Digits([_layer(linear.coef_.T, linear.intercept_)])
    shifted = np.concatenate([images, *(_shift(images, axis, by) for axis, by in _SHIFTS)])
    network = MLPClassifier(hidden_layer_sizes=(96,), alpha=1e-3, max_iter=300, random_state=SEED)
    network.fit(cells(shifted), np.tile(labels, 1 + len(_SHIFTS)))
    return Digits([_layer(*pair) for pair in zip(network.coefs_, network.intercepts_, strict=True)])


_SHIFTS = ((1, -0.5), (1, 0.5), (2, -0.5), (2, 0.5))


def _shift(images: Floats, axis: int, by: float) -> Floats:
    """Half a cell along `axis`: what a picture cut a little off centre looks like."""
    moved: Floats = abs(by) * np.roll(images, 1 if by > 0 else -1, axis) + (1 - abs(by)) * images
    return moved


def _layer(
    weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]
) -> tuple[Floats, Floats]:
    # Stored in half precision; rounded here already, so that what is measured is what ships.
    return (
        weights.astype(np.float16).astype(np.float32),
        bias.astype(np.float16).astype(np.float32),
    )


def digits_accuracy(model: Digits, images: Floats, labels: Labels) -> float:
    """Share of `images`, [n, H, W], that the model labels right."""
    return float((model.probabilities(cells(images)).argmax(axis=1) == labels).mean())


def as_picture(image: Floats) -> Image.Image:
    """An 8x8 digit as ink on paper, 224x224 RGB: what a client would send."""
    ink = Image.fromarray((255 - image * (255 / 16)).astype(np.uint8))
    return ink.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC).convert("RGB")


def through_jpeg(images: Floats) -> Floats:
    """What a 32x32 grey model input looks like after each picture has been a JPEG file."""
    received = []
    for image in images:
        file = io.BytesIO()
        as_picture(image).save(file, "JPEG", quality=85)
        grey = Image.open(file).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
        received.append(np.asarray(grey, dtype=np.float32))
    return np.stack(received)


def save_sentiment(model: Sentiment) -> None:
    """Writes the weights, the vocabulary as newline-separated UTF-8."""
    kept = {name: weight for name, weight in model.weights.items() if abs(weight) > 1e-3}
    np.savez_compressed(
        WEIGHTS / f"sentiment-{model.version}.npz",
        vocabulary=_text(kept),
        weights=np.array(list(kept.values()), dtype=np.float32),
        bias=np.float64(model.bias),
        polar_words=_text(model.polarity),
        polarity=np.array(list(model.polarity.values()), dtype=np.int8),
    )


def _text(names: Iterable[str]) -> npt.NDArray[np.uint8]:
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8)


def save_digits(version: str, model: Digits) -> None:
    """Writes each layer's weights and bias in half precision."""
    arrays: dict[str, npt.NDArray[np.float16]] = {}
    for position, (weights, bias) in enumerate(model.layers):
        arrays[f"weights_{position}"] = weights.astype(np.float16)
        arrays[f"bias_{position}"] = bias.astype(np.float16)
    np.savez_compressed(WEIGHTS / f"digits-{version}.npz", allow_pickle=False, **arrays)


def main() -> None:
    """Trains, measures, and writes the weights and the example picture."""
    WEIGHTS.mkdir(exist_ok=True)
    train, test = sentences("sentiment.tsv"), sentences("sentiment-test.tsv")
    for version in ("v1", "v2"):
        sentiment = train_sentiment(version, train)
        save_sentiment(sentiment)
        accuracy = sentiment_accuracy(sentiment, test)
        print(f"sentiment {version}: {accuracy:.3f} of {len(test)} held out")
    images, labels, test_images, test_labels = pictures()
    for version in ("v1", "v2"):
        digits = train_digits(version, images, labels)
        save_digits(version, digits)
        plain = digits_accuracy(digits, test_images, test_labels)
        jpeg = digits_accuracy(digits, through_jpeg(test_images), test_labels)
        print(f"digits {version}: {plain:.3f} of {len(test_labels)} held out, {jpeg:.3f} as JPEG")
    seven = as_picture(test_images[test_labels == 7][0])
    seven.save(HERE / "digit-7.jpg", quality=85)
    seven.save(HERE / "digit-7.png", optimize=True)


if __name__ == "__main__":
    main()
