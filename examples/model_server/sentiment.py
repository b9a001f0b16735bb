"""The text classifier: sentence to features to P(positive). Weights come from `examples.train`."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .model import WEIGHTS, only_input
from .tensors import InvalidInputError, Tensor, TensorSpec

LABELS = (b"negative", b"positive")
# Angle brackets, so that no word of a text can be one of these.
_SIGNS = {1: "<praise>", -1: "<blame>"}
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.,;:!?]")
_NEGATIONS = frozenset({"not", "no", "never", "nothing", "nobody", "neither", "nor", "without"})
# How many words after a negation it is taken to reach, at most; a punctuation mark ends it sooner.
_NEGATION_REACH = 3


def words(text: str, polarity: Mapping[str, int]) -> list[str]:
    """Features of v1: the words, in lower case, and their polarity, wherever they stand.

    `polarity` maps a word to +1 (praise) or -1 (blame).
    """
    found = [token for token in _tokens(text) if token[0].isalpha()]
    return found + [_SIGNS[polarity[word]] for word in found if word in polarity]


def words_in_context(text: str, polarity: Mapping[str, int]) -> list[str]:
    """Features of v2: words and pairs, those after a negation marked, and the words' polarity.

    A negation turns the polarity round.
    """
    features: list[str] = []
    reach, previous = 0, ""
    for token in _tokens(text):
        if not token[0].isalpha():
            reach, previous = 0, ""
            continue
        marked = f"not_{token}" if reach else token
        features.append(marked)
        if previous:
            features.append(f"{previous} {token}")
        sign = polarity.get(token, 0) * (-1 if reach else 1)
        if sign:
            features.append(_SIGNS[sign])
        reach = _NEGATION_REACH if _negates(token) else max(reach - 1, 0)
        previous = token
    return features


def _tokens(text: str) -> list[str]:
    found: list[str] = _TOKEN.findall(text.lower().replace(_APOSTROPHE, "'"))
    return found


def _negates(token: str) -> bool:
    return token in _NEGATIONS or token.endswith("n't")


class Sentiment:
    """Logistic regression over counted features; BYTES [n] or [n, 1] in, label and scores out."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("text", "BYTES", (-1,)),)
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("score", "FP32", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, 2)),
    )

    def __init__(
        self,
        version: str,
        weights: Mapping[str, float],
        bias: float,
        polarity: Mapping[str, int],
    ) -> None:
        self.version = version
        self.weights = weights
        self.bias = bias
        self.polarity = polarity

    @classmethod
    def load(cls, version: str) -> "Sentiment":
        """Reads the weights that ship here; FileNotFoundError for no such version."""
        with np.load(WEIGHTS / f"sentiment-{version}.npz") as stored:
            vocabulary = _lines(stored["vocabulary"])
            weights = dict(zip(vocabulary, stored["weights"].tolist(), strict=True))
            polarity = dict(
                zip(_lines(stored["polar_words"]), stored["polarity"].tolist(), strict=True)
            )
            return cls(version, weights, float(stored["bias"]), polarity)

    def features(self, text: str) -> list[str]:
        """What this version sees in a sentence."""
        read = words if self.version == "v1" else words_in_context
        return read(text, self.polarity)

    def score(self, text: str) -> float:
        """P(positive)."""
        counts = Counter(self.features(text))
        # Long texts repeat themselves: the logarithm keeps one word from deciding alone.
        total = self.bias + sum(
            self.weights.get(feature, 0.0) * float(np.log1p(count))
            for feature, count in counts.items()
        )
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


def _lines(stored: npt.NDArray[np.uint8]) -> list[str]:
    return stored.tobytes().decode().split("\n") if stored.size else []
