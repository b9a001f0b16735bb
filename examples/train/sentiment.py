"""Training, evaluation and storage of the sentiment classifiers, and their words and sentences."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit

from examples.model_server.model import WEIGHTS
from examples.model_server.sentiment import FEATURES, SentimentClassifier, tokens

SEED = 7
TEST_FRACTION = 0.25
SENTENCES = Path(__file__).resolve().parent.parent / "data/sentiment-test.tsv"
PREFIX_LENGTH = 5
"""Letters of a prefix. Most words with the same prefix are forms of one word."""

_NEUTRAL_RATING = 10.0
"""Assumed sum of the positive ratings of a neutral word by ten raters, and of the negative ones."""

Sentence = tuple[str, bool]
Ratings = Mapping[str, tuple[int, int]]
"""The sum of the positive ratings of a word, and the sum of its negative ratings."""


def held_out_sentences() -> list[Sentence]:
    """Sentences, and whether each one is positive. No model is trained on them."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines if not line.startswith("#")]
    return [(text, sign == "+") for sign, text in pairs]


def rated_words() -> Ratings:
    """The words of the VADER lexicon. Ten raters have rated each word from -4 to 4.

    Emoticons and abbreviations with digits are left out.
    """
    ratings = {}
    lexicon = resources.files("vaderSentiment") / "vader_lexicon.txt"
    for line in lexicon.read_text(encoding="utf-8").splitlines():
        word, _mean, _deviation, listed = line.split("\t")
        values = json.loads(listed)
        if tokens(word) == [word.lower()] and word[0].isalpha():
            positive = sum(value for value in values if value > 0)
            ratings[word.lower()] = (positive, positive - sum(values))
    return ratings


def neutral_words(rated: Ratings) -> list[str]:
    """Words without a rating: stop words, and words in descriptions of scikit-learn's data sets.

    The lexicon has no neutral words. Without these words, no n-gram could become neutral.
    """
    words = set(ENGLISH_STOP_WORDS)
    for file in (resources.files("sklearn.datasets") / "descr").iterdir():
        if file.name.endswith(".rst"):
            words.update(re.findall(r"[a-z]{2,}", file.read_text(encoding="utf-8").lower()))
    return sorted(words - rated.keys())


def train(version: str, rated: Ratings, neutral: Sequence[str]) -> SentimentClassifier:
    """Fits a logistic regression without a bias to the features of single words.

    Each word is one positive and one negative sample. The weight of the positive sample is the sum
    of the positive ratings, and the weight of the negative sample that of the negative ratings.
    """
    samples = _balanced(rated)
    samples += [(word, _NEUTRAL_RATING, _NEUTRAL_RATING) for word in neutral]
    vectorizer = DictVectorizer(sparse=True)
    rows = _feature_rows(version, [word for word, _, _ in samples])
    vectors = vectorizer.fit_transform([*rows, *rows])
    weight = [positive for _, positive, _ in samples] + [negative for _, _, negative in samples]
    # The tolerance is low because it applies to the mean over all samples, not to one word.
    regression = LogisticRegression(
        C=0.3, tol=1e-7, fit_intercept=False, max_iter=1000, random_state=SEED
    )
    regression.fit(vectors, [True] * len(rows) + [False] * len(rows), sample_weight=weight)
    # `save` rounds the weights too. The accuracy must be the accuracy of the saved weights.
    weights = regression.coef_[0].astype(np.float16).tolist()
    named = zip(vectorizer.get_feature_names_out().tolist(), weights, strict=True)
    return SentimentClassifier(version, {name: value for name, value in named if abs(value) > 1e-3})


def split_words(rated: Ratings, letters: int | None) -> tuple[Ratings, Ratings]:
    """Splits the words into training and test words.

    Words with the same first `letters` letters are in the same part. None: every word is separate.
    """
    words = list(rated)
    split = GroupShuffleSplit(n_splits=1, test_size=TEST_FRACTION, random_state=SEED)
    train_words, test_words = (
        {words[i]: rated[words[i]] for i in indices}
        for indices in next(split.split(words, groups=[word[:letters] for word in words]))
    )
    return train_words, test_words


def word_accuracy(model: SentimentClassifier, rated: Ratings) -> float:
    """Fraction of the words whose score has the same sign as the sum of their ratings."""
    correct = (
        (model.word_score(word) > 0) == (positive > negative)
        for word, (positive, negative) in rated.items()
    )
    return sum(correct) / len(rated)


def accuracy(model: SentimentClassifier, sentences: Sequence[Sentence]) -> float:
    """Fraction of the sentences that the model labels correctly."""
    correct = ((model.score(text) >= 0.5) == positive for text, positive in sentences)
    return sum(correct) / len(sentences)


def save(model: SentimentClassifier) -> None:
    """Writes the weights in half precision and the features as newline-separated UTF-8."""
    np.savez_compressed(
        WEIGHTS / f"sentiment-{model.version}.npz",
        vocabulary=np.frombuffer("\n".join(model.weights).encode(), dtype=np.uint8),
        weights=np.array(list(model.weights.values()), dtype=np.float16),
    )


def _balanced(rated: Ratings) -> list[tuple[str, float, float]]:
    """The rated words, with their ratings scaled so that both directions have the same sum.

    The lexicon has more negative than positive words. Without scaling, every sentence would get a
    more negative score.
    """
    positives, negatives = (sum(ratings) for ratings in zip(*rated.values(), strict=True))
    mean = (positives + negatives) / 2
    return [
        (word, positive * mean / positives, negative * mean / negatives)
        for word, (positive, negative) in rated.items()
    ]


def _feature_rows(version: str, words: Sequence[str]) -> list[dict[str, int]]:
    """The features of each word, without n-grams that occur in no other word."""
    features = FEATURES[version]
    seen = Counter(feature for word in words for feature in features(word))
    return [
        {feature: 1 for feature in features(word) if seen[feature] > 1 or feature == f"<{word}>"}
        for word in words
    ]
