"""The weights that ship reach the accuracy that examples/README.md states, on data held out."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.model_server.digits import Digits, cells
from examples.model_server.sentiment import Sentiment
from examples.train import (
    digits_accuracy,
    pictures,
    sentences,
    sentiment_accuracy,
    through_jpeg,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(("version", "stated"), [("v1", 48 / 72), ("v2", 49 / 72)])
def test_sentiment_reaches_its_stated_accuracy(version: str, stated: float) -> None:
    held_out = sentences("sentiment-test.tsv")
    assert sentiment_accuracy(Sentiment.load(version), held_out) >= stated


def test_no_held_out_sentence_was_trained_on() -> None:
    assert not set(sentences("sentiment-test.tsv")) & set(sentences("sentiment.tsv"))


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
    features = Sentiment.load(version).features("It was not good")
    assert ("<praise>" in features) is (version == "v1")
    assert ("<blame>" in features) is (version == "v2")


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
    assert sum(file.stat().st_size for file in files) < 300_000
