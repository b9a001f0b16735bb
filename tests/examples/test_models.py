"""The models reach the accuracy that examples/README.md states, on held-out data."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.model_server.digits import DigitClassifier, to_cells
from examples.model_server.sentiment import SentimentClassifier
from examples.train import digits, sentiment

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(("version", "stated"), [("v1", 37 / 72), ("v2", 52 / 72)])
def test_sentiment_reaches_its_stated_accuracy(version: str, stated: float) -> None:
    model = SentimentClassifier.load(version)
    assert sentiment.accuracy(model, sentiment.held_out_sentences()) >= stated


@pytest.mark.parametrize(("letters", "stated"), [(None, 0.90), (sentiment.PREFIX_LENGTH, 0.67)])
def test_ngrams_classify_unseen_words(letters: int | None, stated: float) -> None:
    rated = sentiment.rated_words()
    train_words, test_words = sentiment.split_words(rated, letters)
    assert not train_words.keys() & test_words.keys()
    model = sentiment.train("v2", train_words, sentiment.neutral_words(rated))
    assert sentiment.word_accuracy(model, test_words) >= stated


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_example_request_is_clearly_positive(version: str) -> None:
    request = json.loads((EXAMPLES / "sentiment.json").read_text())
    assert SentimentClassifier.load(version).score(request["inputs"][0]["data"][0]) > 0.9


@pytest.mark.parametrize(("version", "stated"), [("v1", 0.97), ("v2", 0.985)])
def test_digits_reach_their_stated_accuracy_before_and_after_jpeg(
    version: str, stated: float
) -> None:
    _, _, images, labels = digits.split_images()
    model = DigitClassifier.load(version)
    assert digits.accuracy(model, images, labels) >= stated
    assert digits.accuracy(model, digits.through_jpeg(images), labels) >= stated


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_only_v2_inverts_a_word_after_a_negation(version: str) -> None:
    model = SentimentClassifier.load(version)
    assert model.score("It was good") > 0.7
    assert (model.score("It was not good") < 0.3) is (version == "v2")
    assert model.score("It was not, good") > 0.5


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_only_v2_scores_a_word_form_that_was_not_in_the_training_data(version: str) -> None:
    model = SentimentClassifier.load(version)
    assert "<wonderfullest>" not in model.weights
    assert (model.word_score("wonderfullest") > 1) is (version == "v2")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_word_of_megabytes_has_no_score(version: str) -> None:
    assert SentimentClassifier.load(version).score("good" * 1_000_000) == 0.5


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("file", ["digit-7.jpg", "digit-7.png"])
@pytest.mark.parametrize("side", [32, 64, 224])
def test_the_example_image_is_classified_as_seven(version: str, file: str, side: int) -> None:
    image = Image.open(BytesIO((EXAMPLES / file).read_bytes())).convert("L").resize((side, side))
    cells = to_cells(np.asarray(image)[None])
    assert DigitClassifier.load(version).probabilities(cells).argmax() == 7


def test_the_weight_files_are_smaller_than_400_kb() -> None:
    files = list((EXAMPLES / "weights").glob("*.npz"))
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 400_000
