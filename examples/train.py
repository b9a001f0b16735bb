"""Trains the example models and prints how they do on data held out: `python -m examples.train`.

Needs scikit-learn and vaderSentiment, which bring the data (both in the development group); the
server needs only the .npz files written here.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.neural_network import MLPClassifier

from examples.model_server.digits import Digits, Floats, cells
from examples.model_server.model import WEIGHTS
from examples.model_server.sentiment import FEATURES, Sentiment, tokens

HERE = Path(__file__).resolve().parent
SEED = 7
HELD_OUT = 0.25
PICTURE_SIDE = 224
# Words that begin with the same five letters are mostly forms of one another.
FAMILY = 5
# What ten raters might give a plain word, in each direction.
PLAIN = 10.0

Sentence = tuple[str, bool]
Ratings = Mapping[str, tuple[int, int]]
Labels = npt.NDArray[np.int64]


def held_out_sentences() -> list[Sentence]:
    """The labelled sentences of data/, as (text, is positive); nothing is trained on them."""
    lines = (HERE / "data/sentiment-test.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines if not line.startswith("#")]
    return [(text, sign == "+") for sign, text in pairs]


def rated_words() -> Ratings:
    """The words of the VADER lexicon with what its ten raters, -4 to 4 each, gave (praise, blame).

    Its emoticons, and abbreviations with digits in them, are left out.
    """
    found = {}
    lexicon = resources.files("vaderSentiment") / "vader_lexicon.txt"
    for line in lexicon.read_text(encoding="utf-8").splitlines():
        word, _mean, _deviation, listed = line.split("\t")
        marks = json.loads(listed)
        if tokens(word) == [word.lower()] and word[0].isalpha():
            praise = sum(mark for mark in marks if mark > 0)
            found[word.lower()] = (praise, praise - sum(marks))
    return found


def plain_words(rated: Ratings) -> list[str]:
    """Words that nobody rated: stop words, and those that describe scikit-learn's data sets.

    A lexicon of opinions has no others, and fragments need to see what says nothing.
    """
    found = set(ENGLISH_STOP_WORDS)
    for file in (resources.files("sklearn.datasets") / "descr").iterdir():
        if file.name.endswith(".rst"):
            found.update(re.findall(r"[a-z]{2,}", file.read_text(encoding="utf-8").lower()))
    return sorted(found - rated.keys())


def train_sentiment(version: str, rated: Ratings, plain: Sequence[str]) -> Sentiment:
    """Logistic regression over the features of single words, without a bias.

    A word is an example of praise and one of blame, each weighed by what the raters gave it; plain
    words are as much one as the other.
    """
    praise, blame = (sum(marks) for marks in zip(*rated.values(), strict=True))
    # More of the lexicon blames than praises, which is no reason to think worse of a sentence.
    even = (praise + blame) / 2
    weighed = [
        (word, up * even / praise, down * even / blame) for word, (up, down) in rated.items()
    ]
    weighed += [(word, PLAIN, PLAIN) for word in plain]
    features = FEATURES[version]
    # A fragment of one word alone says nothing that the word itself does not.
    seen = Counter(feature for word, _, _ in weighed for feature in features(word))
    rows = [
        {feature: 1 for feature in features(word) if seen[feature] > 1 or feature == f"<{word}>"}
        for word, _, _ in weighed
    ]
    vectorizer = DictVectorizer(sparse=True)
    vectors = vectorizer.fit_transform([*rows, *rows])
    weight = [up for _, up, _ in weighed] + [down for _, _, down in weighed]
    # The solver's tolerance is for the mean over all ratings, of which one word has a tiny share.
    fitted = LogisticRegression(
        C=0.3, tol=1e-7, fit_intercept=False, max_iter=1000, random_state=SEED
    )
    fitted.fit(vectors, [True] * len(rows) + [False] * len(rows), sample_weight=weight)
    # Stored in half precision; rounded here already, so that what is measured is what ships.
    weights = fitted.coef_[0].astype(np.float16).tolist()
    named = zip(vectorizer.get_feature_names_out().tolist(), weights, strict=True)
    return Sentiment(version, {name: weight for name, weight in named if abs(weight) > 1e-3})


def unseen_words(rated: Ratings, letters: int | None) -> tuple[Ratings, Ratings]:
    """`rated` as training and held-out words; those with the same first `letters` stay together."""
    words = list(rated)
    split = GroupShuffleSplit(n_splits=1, test_size=HELD_OUT, random_state=SEED)
    train, test = next(split.split(words, groups=[word[:letters] for word in words]))
    return {words[i]: rated[words[i]] for i in train}, {words[i]: rated[words[i]] for i in test}


def word_accuracy(model: Sentiment, rated: Ratings) -> float:
    """Share of `rated` that the model takes for what its raters did, on the whole."""
    right = ((model.opinion(word) > 0) == (up > down) for word, (up, down) in rated.items())
    return sum(right) / len(rated)


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
    """Writes the weights in half precision, the vocabulary as newline-separated UTF-8."""
    np.savez_compressed(
        WEIGHTS / f"sentiment-{model.version}.npz",
        vocabulary=np.frombuffer("\n".join(model.weights).encode(), dtype=np.uint8),
        weights=np.array(list(model.weights.values()), dtype=np.float16),
    )


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
    rated, test = rated_words(), held_out_sentences()
    unrated = plain_words(rated)
    for version in ("v1", "v2"):
        sentiment = train_sentiment(version, rated, unrated)
        save_sentiment(sentiment)
        accuracy = sentiment_accuracy(sentiment, test)
        print(f"sentiment {version}: {accuracy:.3f} of {len(test)} sentences")
    for kind, letters in (("words", None), ("words of unseen families", FAMILY)):
        known, unseen = unseen_words(rated, letters)
        accuracy = word_accuracy(train_sentiment("v2", known, unrated), unseen)
        print(f"sentiment v2: {accuracy:.3f} of {len(unseen)} held-out {kind}")
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
