"""The weights that ship reach the accuracy that examples/README.md states, on data held out."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.model_server.digits import Digits, cells
from examples.model_server.sentiment import Sentiment
from examples.train import (
    FAMILY,
    digits_accuracy,
    held_out_sentences,
    pictures,
    plain_words,
    rated_words,
    sentiment_accuracy,
    through_jpeg,
    train_sentiment,
    unseen_words,
    word_accuracy,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(("version", "stated"), [("v1", 37 / 72), ("v2", 52 / 72)])
def test_sentiment_reaches_its_stated_accuracy(version: str, stated: float) -> None:
    assert sentiment_accuracy(Sentiment.load(version), held_out_sentences()) >= stated


@pytest.mark.parametrize(("letters", "stated"), [(None, 0.90), (FAMILY, 0.67)])
def test_fragments_tell_words_that_were_held_out(letters: int | None, stated: float) -> None:
    rated = rated_words()
    known, unseen = unseen_words(rated, letters)
    assert not known.keys() & unseen.keys()
    assert word_accuracy(train_sentiment("v2", known, plain_words(rated)), unseen) >= stated


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_example_request_is_clearly_positive(version: str) -> None:
    request = json.loads((EXAMPLES / "sentiment.json").read_text())
    assert Sentiment.load(version).score(request["inputs"][0]["data"][0]) > 0.9


@pytest.mark.parametrize(("version", "stated"), [("v1", 0.97), ("v2", 0.985)])
def test_digits_reach_their_stated_accuracy_before_and_after_jpeg(
    version: str, stated: float
) -> None:
    _, _, images, labels = pictures()
    model = Digits.load(version)
    assert digits_accuracy(model, images, labels) >= stated
    assert digits_accuracy(model, through_jpeg(images), labels) >= stated


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_only_v2_turns_a_word_round_after_a_negation(version: str) -> None:
    model = Sentiment.load(version)
    assert model.score("It was good") > 0.7
    assert (model.score("It was not good") < 0.3) is (version == "v2")
    assert model.score("It was not, good") > 0.5


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_only_v2_has_an_opinion_of_a_word_form_it_never_saw(version: str) -> None:
    model = Sentiment.load(version)
    assert "<wonderfullest>" not in model.weights
    assert (model.opinion("wonderfullest") > 1) is (version == "v2")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_word_of_megabytes_says_nothing(version: str) -> None:
    assert Sentiment.load(version).score("good" * 1_000_000) == 0.5


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("file", ["digit-7.jpg", "digit-7.png"])
@pytest.mark.parametrize("side", [32, 64, 224])
def test_the_picture_of_a_seven_is_a_seven(version: str, file: str, side: int) -> None:
    picture = Image.open(BytesIO((EXAMPLES / file).read_bytes())).convert("L").resize((side, side))
    found = Digits.load(version).probabilities(cells(np.asarray(picture)[None]))
    assert found.argmax() == 7


def test_all_weights_together_stay_small() -> None:
    files = list((EXAMPLES / "weights").glob("*.npz"))
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 400_000
