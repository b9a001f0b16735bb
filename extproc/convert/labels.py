"""Finds the classes with the highest scores in an output with labels (`top_k` in JSON)."""

import numpy as np

from extproc.convert.elements import array
from extproc.convert.tensor import Tensor, element_count
from sluice.config.tensors import INTEGER_DATATYPES, TensorOutput

_MAX_CLASSES = 1 << 17
"""Classes of an output. Each is an object of 200 bytes, so the labels of all pixels of an image
would take more memory than the image."""


def top_classes(tensor: Tensor, declared: TensorOutput) -> list[list[dict[str, object]]]:
    """The classes with the highest scores in each row, the highest score first.

    In an integer tensor, each element is a class number and gets its label. Empty for BYTES and
    BOOL, for tensors without dimensions or without elements, and for more than 131,072 classes.
    """
    if tensor.datatype in ("BYTES", "BOOL") or not tensor.shape or not len(tensor.data):
        return []
    if _class_count(tensor, declared) > _MAX_CLASSES:
        return []
    values = array(tensor.data, tensor.datatype)
    if tensor.datatype in INTEGER_DATATYPES:
        return [[_class(int(index), declared)] for index in values.tolist()]
    scores = values.astype(np.float64 if tensor.datatype == "FP64" else np.float32)
    rows = scores.reshape(-1, tensor.shape[-1])
    # argsort puts NaN last.
    order = np.argsort(np.negative(rows), axis=1, kind="stable")[:, : declared.top_k]
    return [
        [{**_class(int(index), declared), "score": row[index]} for index in best]
        for row, best in zip(rows, order, strict=True)
    ]


def _class_count(tensor: Tensor, declared: TensorOutput) -> int:
    count = element_count(tensor.shape)
    if tensor.datatype in INTEGER_DATATYPES:
        return count
    return count // tensor.shape[-1] * min(declared.top_k, tensor.shape[-1])


def _class(index: int, declared: TensorOutput) -> dict[str, object]:
    known = 0 <= index < len(declared.labels)
    return {"label": declared.labels[index] if known else None, "index": index}
