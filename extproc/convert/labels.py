"""Finds the classes with the highest scores in an output with labels (`top_k` in JSON)."""

import numpy as np

from extproc.convert.elements import array
from extproc.convert.tensor import Tensor
from sluice.config.tensors import INTEGER_DATATYPES, TensorOutput


def top_classes(tensor: Tensor, declared: TensorOutput) -> list[list[dict[str, object]]]:
    """The classes with the highest scores in each row, the highest score first.

    In an integer tensor, each element is a class number and gets its label. Empty for BYTES and
    BOOL, and for tensors without dimensions or without elements.
    """
    if tensor.datatype in ("BYTES", "BOOL") or not tensor.shape or not len(tensor.data):
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


def _class(index: int, declared: TensorOutput) -> dict[str, object]:
    known = 0 <= index < len(declared.labels)
    return {"label": declared.labels[index] if known else None, "index": index}
