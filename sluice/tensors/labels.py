"""Finds the classes with the highest scores in an output with labels."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sluice.config.tensors import INTEGER_DATATYPES, TensorOutput
from sluice.tensors.elements import Array

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

MAX_CLASSES = 1 << 17
"""Classes of the outputs of a response. Each is an object of 200 bytes, so the labels of all pixels
of an image would take more memory than the image."""

Classes = list[list[dict[str, object]]]
"""The classes of each row."""


class TopClasses:
    """Finds the classes of the outputs of one response.

    An output gets none if all outputs together would have more than `MAX_CLASSES`. A server may
    repeat an output, so a bound for each output would not bound the memory.
    """

    __slots__ = ("_room",)

    def __init__(self) -> None:
        self._room = MAX_CLASSES

    def of_array(
        self, values: Array, datatype: str, shape: tuple[int, ...], declared: TensorOutput
    ) -> Classes:
        """The classes with the highest scores in each row, the highest score first.

        `values` is the flat array of a tensor. In an integer tensor, each element is a class number
        and gets its label. Empty for BYTES and BOOL, and for tensors without dimensions or without
        elements.
        """
        if datatype in ("BYTES", "BOOL") or not shape or not values.size:
            return []
        if datatype in INTEGER_DATATYPES:
            return self.of_numbers(values[: MAX_CLASSES + 1].tolist(), declared)
        if datatype == "FP64":
            return self.of_scores(values.astype(np.float64).reshape(shape), declared)
        return self.of_scores(values.astype(np.float32).reshape(shape), declared)

    def of_numbers(self, numbers: Sequence[int], declared: TensorOutput) -> Classes:
        """The class of each number."""
        if not self._take(len(numbers)):
            return []
        return [[_class(number, declared)] for number in numbers]

    def of_scores(self, scores: Floats, declared: TensorOutput) -> Classes:
        """The best classes of each row, without those whose score is NaN.

        `scores` must have at least one dimension and one element.
        """
        rows: Array = scores.reshape(-1, scores.shape[-1])
        if not self._take(len(rows) * min(declared.top_k, rows.shape[1])):
            return []
        order = np.argsort(np.negative(rows), axis=1, kind="stable")[:, : declared.top_k]
        return [
            [
                {**_class(index, declared), "score": row[index]}
                for index in best
                if not math.isnan(row[index])
            ]
            for row, best in zip(rows, order.tolist(), strict=True)
        ]

    def _take(self, count: int) -> bool:
        """Whether there is room for so many classes. They take it."""
        if count > self._room:
            return False
        self._room -= count
        return True


def _class(index: int, declared: TensorOutput) -> dict[str, object]:
    known = 0 <= index < len(declared.labels)
    return {"label": declared.labels[index] if known else None, "index": index}
