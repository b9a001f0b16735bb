"""The text classifier: a sentence to the probability that it is positive.

`examples.train` trains it. The score of a word is a sum of weights, and the score of a sentence is
the sum of its words.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .model import WEIGHTS, single_input
from .tensors import InvalidInputError, Tensor, TensorSpec

LABELS = (b"negative", b"positive")
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.,;:!?]")
_NEGATIONS = frozenset({"not", "no", "never", "nothing", "nobody", "neither", "nor", "without"})
# A negation inverts at most this many words after it. A punctuation mark ends it earlier.
_NEGATION_SCOPE = 3
_NGRAM_LENGTHS = range(3, 7)
# Bounds the n-grams of a word: a text may be one word of megabytes.
_MAX_WORD_LENGTH = 40


def word_feature(word: str) -> list[str]:
    """The feature of a word in v1: the word in angle brackets."""
    return [f"<{word}>"]


def word_and_ngrams(word: str) -> list[str]:
    """The features of a word in v2: the word, and its distinct character n-grams of 3 to 6 letters.

    The angle brackets count as letters, so that prefixes and suffixes differ from other n-grams.
    """
    if len(word) > _MAX_WORD_LENGTH:
        return word_feature(word)
    marked = f"<{word}>"
    starts = ((length, start) for length in _NGRAM_LENGTHS for start in range(len(marked)))
    ngrams = (marked[i : i + length] for length, i in starts if i + length <= len(marked))
    return list(dict.fromkeys((marked, *ngrams)))


FEATURES: Mapping[str, Callable[[str], list[str]]] = {"v1": word_feature, "v2": word_and_ngrams}


def words(text: str) -> list[tuple[str, int]]:
    """The words of a text in v1, in lower case, each with the sign +1."""
    return [(token, 1) for token in tokens(text) if token[0].isalpha()]


def words_with_negation(text: str) -> list[tuple[str, int]]:
    """The words of a text in v2, in lower case, each with the sign -1 if a negation precedes it.

    Negations have no score of their own, so they are left out.
    """
    signed: list[tuple[str, int]] = []
    scope = 0
    for token in tokens(text):
        if not token[0].isalpha():
            scope = 0
        elif _is_negation(token):
            scope = _NEGATION_SCOPE
        else:
            signed.append((token, -1 if scope else 1))
            scope = max(scope - 1, 0)
    return signed


def tokens(text: str) -> list[str]:
    """The words of a text, in lower case, and the punctuation marks that end a clause."""
    matches: list[str] = _TOKEN.findall(text.lower().replace(_APOSTROPHE, "'"))
    return matches


def _is_negation(token: str) -> bool:
    return token in _NEGATIONS or token.endswith("n't")


class SentimentClassifier:
    """Logistic regression on the words of a text."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("text", "BYTES", (-1,)),)
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("score", "FP32", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, 2)),
    )

    def __init__(self, version: str, weights: Mapping[str, float]) -> None:
        self.version = version
        self.weights = weights
        self._features = FEATURES[version]
        self._signed_words = words if version == "v1" else words_with_negation

    @classmethod
    def load(cls, version: str) -> "SentimentClassifier":
        """Reads the weights of a version; raises FileNotFoundError if there is no such version."""
        with np.load(WEIGHTS / f"sentiment-{version}.npz") as stored:
            vocabulary = stored["vocabulary"].tobytes().decode().split("\n")
            return cls(version, dict(zip(vocabulary, stored["weights"].tolist(), strict=True)))

    def word_score(self, word: str) -> float:
        """Log odds that a lower-case word is positive; 0 if none of its features has a weight."""
        return sum(self.weights.get(feature, 0.0) for feature in self._features(word))

    def score(self, text: str) -> float:
        """Probability that a text is positive; 0.5 if no word has a score."""
        counts = Counter(self._signed_words(text))
        total = sum(sign * count * self.word_score(word) for (word, sign), count in counts.items())
        return float(1.0 / (1.0 + np.exp(-np.clip(total, -60.0, 60.0))))

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`label` BYTES [n], `score` FP32 [n] (of positive), `probabilities` FP32 [n, 2]."""
        text = single_input(inputs, "text")
        if text.datatype != "BYTES":
            raise InvalidInputError(f"input 'text': expected BYTES, got {text.datatype}")
        shape = text.data.shape
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            raise InvalidInputError(
                f"input 'text': expected shape [n] or [n, 1], got {list(shape)}"
            )
        positive: npt.NDArray[np.float32] = np.array(
            [self.score(_decoded(item)) for item in text.data.ravel().tolist()], dtype=np.float32
        )
        labels = np.array([LABELS[int(value >= 0.5)] for value in positive], dtype=object)
        return (
            Tensor("label", "BYTES", labels),
            Tensor("score", "FP32", positive),
            Tensor("probabilities", "FP32", np.stack([1 - positive, positive], axis=-1)),
        )


def _decoded(item: bytes) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"input 'text': invalid UTF-8: {error}") from None
