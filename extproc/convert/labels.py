"""Finds the classes with the highest scores in an output with labels (`top_k` in JSON)."""

import math
from collections.abc import Sequence

import numpy as np

from extproc.convert.elements import Array, array
from extproc.convert.response_elements import Floats
from extproc.convert.tensor import Tensor
from sluice.config.tensors import INTEGER_DATATYPES, TensorOutput

MAX_CLASSES = 1 << 17
"""Classes of an output. Each is an object of 200 bytes, so the labels of all pixels of an image
would take more memory than the image."""

Classes = list[list[dict[str, object]]]
"""The classes of each row."""


def top_classes(tensor: Tensor, declared: TensorOutput) -> Classes:
    """The classes with the highest scores in each row, the highest score first.

    In an integer tensor, each element is a class number and gets its label. Empty for BYTES and
    BOOL, for tensors without dimensions or without elements, and for more than 131,072 classes.
    """
    if tensor.datatype in ("BYTES", "BOOL") or not tensor.shape or not len(tensor.data):
        return []
    values = array(tensor.data, tensor.datatype)
    if tensor.datatype in INTEGER_DATATYPES:
        return numbered_classes(values[: MAX_CLASSES + 1].tolist(), declared)
    if tensor.datatype == "FP64":
        return scored_classes(values.astype(np.float64).reshape(tensor.shape), declared)
    return scored_classes(values.astype(np.float32).reshape(tensor.shape), declared)


def numbered_classes(numbers: Sequence[int], declared: TensorOutput) -> Classes:
    """The class of each number; empty for more than 131,072 classes."""
    if len(numbers) > MAX_CLASSES:
        return []
    return [[_class(number, declared)] for number in numbers]


def scored_classes(scores: Floats, declared: TensorOutput) -> Classes:
    """The best classes of each row, without those whose score is NaN.

    Empty for more than 131,072 classes. `scores` must have at least one dimension and one element.
    """
    rows: Array = scores.reshape(-1, scores.shape[-1])
    if len(rows) * min(declared.top_k, rows.shape[1]) > MAX_CLASSES:
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


def _class(index: int, declared: TensorOutput) -> dict[str, object]:
    known = 0 <= index < len(declared.labels)
    return {"label": declared.labels[index] if known else None, "index": index}
