"""The text classifier: sentence to words to P(positive). Weights come from `examples.train`.

What a word says, praise or blame, is a sum of learned weights; a sentence is the sum of its words.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .model import WEIGHTS, only_input
from .tensors import InvalidInputError, Tensor, TensorSpec

LABELS = (b"negative", b"positive")
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.,;:!?]")
_NEGATIONS = frozenset({"not", "no", "never", "nothing", "nobody", "neither", "nor", "without"})
# How many words after a negation it is taken to reach, at most; a punctuation mark ends it sooner.
_NEGATION_REACH = 3
_FRAGMENT_LENGTHS = range(3, 7)
# No word that means something is longer, and a text may be one token of megabytes.
_LONGEST_WORD = 40


def whole(word: str) -> list[str]:
    """Features of a word in v1: itself, in angle brackets."""
    return [f"<{word}>"]


def whole_and_fragments(word: str) -> list[str]:
    """Features of a word in v2: itself, and every distinct run of 3 to 6 letters in it.

    The angle brackets count as letters, so that a beginning and an ending are told from a middle.
    """
    if len(word) > _LONGEST_WORD:
        return whole(word)
    marked = f"<{word}>"
    starts = ((length, start) for length in _FRAGMENT_LENGTHS for start in range(len(marked)))
    runs = (marked[i : i + length] for length, i in starts if i + length <= len(marked))
    return list(dict.fromkeys((marked, *runs)))


FEATURES: Mapping[str, Callable[[str], list[str]]] = {"v1": whole, "v2": whole_and_fragments}


def words(text: str) -> list[tuple[str, int]]:
    """What v1 reads in a text: every word, in lower case, for what it says by itself (+1)."""
    return [(token, 1) for token in tokens(text) if token[0].isalpha()]


def words_in_context(text: str) -> list[tuple[str, int]]:
    """What v2 reads in a text: every word, turned round (-1) where a negation reaches it.

    The negation itself is left out: turning others round is all it says.
    """
    found: list[tuple[str, int]] = []
    reach = 0
    for token in tokens(text):
        if not token[0].isalpha():
            reach = 0
        elif _negates(token):
            reach = _NEGATION_REACH
        else:
            found.append((token, -1 if reach else 1))
            reach = max(reach - 1, 0)
    return found


def tokens(text: str) -> list[str]:
    """The words of a text, in lower case, and the punctuation marks that end a clause."""
    found: list[str] = _TOKEN.findall(text.lower().replace(_APOSTROPHE, "'"))
    return found


def _negates(token: str) -> bool:
    return token in _NEGATIONS or token.endswith("n't")


class Sentiment:
    """Logistic regression over words; BYTES [n] or [n, 1] in, label and scores out."""

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
        self._read = words if version == "v1" else words_in_context

    @classmethod
    def load(cls, version: str) -> "Sentiment":
        """Reads the weights that ship here; FileNotFoundError for no such version."""
        with np.load(WEIGHTS / f"sentiment-{version}.npz") as stored:
            vocabulary = stored["vocabulary"].tobytes().decode().split("\n")
            return cls(version, dict(zip(vocabulary, stored["weights"].tolist(), strict=True)))

    def opinion(self, word: str) -> float:
        """Log odds that `word`, in lower case, praises; 0 when nothing of it is known."""
        return sum(self.weights.get(feature, 0.0) for feature in self._features(word))

    def score(self, text: str) -> float:
        """P(positive); 0.5 when no word says anything."""
        counts = Counter(self._read(text))
        total = sum(sign * count * self.opinion(word) for (word, sign), count in counts.items())
        return float(1.0 / (1.0 + np.exp(-np.clip(total, -60.0, 60.0))))

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`label` BYTES [n], `score` FP32 [n] (P of positive), `probabilities` FP32 [n, 2]."""
        text = only_input(inputs, "text")
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
        raise InvalidInputError(f"input 'text': not UTF-8: {error}") from None
