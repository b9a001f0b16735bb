"""Reads the objects that a model found from its outputs, as boxes in shares of the frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from protos import video_pb2 as pb
from sluice.config.tensors import TensorOutput
from sluice.config.video_model import BoxOutputs
from video.annotation.area import InputArea

MAX_BOXES: Final = 200
"""Boxes of a frame. People cannot tell more apart, and each takes time to draw."""

_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Box:
    """An object: its edges in shares of the frame, from 0 to 1, and its text."""

    left: float
    top: float
    right: float
    bottom: float
    kind: int
    """Boxes of one kind get the same color."""
    text: str


def find_boxes(
    inference: pb.Inference,
    config: BoxOutputs,
    area: InputArea,
    declared: Sequence[TensorOutput],
) -> list[Box]:
    """The objects with the highest scores, the highest last. Empty if the outputs do not fit."""
    outputs = {output.name: output for output in inference.outputs}
    with np.errstate(over="ignore", invalid="ignore"):
        corners = _corners(_numbers(outputs.get(config.boxes)), config, area)
    count = len(corners)
    scores = np.ones(count)
    if config.scores is not None:
        given = _numbers(outputs.get(config.scores))
        if given.size != count:
            return []
        scores = given
    shown = np.isfinite(corners).all(axis=1) & (scores >= config.min_score)
    shown &= (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    best = np.argsort(-scores, kind="stable")
    best = best[shown[best]][:MAX_BOXES]
    classes = outputs.get(config.classes) if config.classes is not None else None
    labels = next((each.labels for each in declared if each.name == config.classes), ())
    boxes = []
    for index in reversed(best.tolist()):
        kind, name = _class(classes, index, labels)
        score = f"{scores[index]:.2f}" if config.scores is not None else ""
        left, top, right, bottom = corners[index].tolist()
        boxes.append(Box(left, top, right, bottom, kind, f"{name} {score}".strip()))
    return boxes


def _corners(values: _Numbers, config: BoxOutputs, area: InputArea) -> _Numbers:
    """Left, top, right and bottom of each object, in shares of the frame. Clipped to it."""
    rows = values[: len(values) // 4 * 4].reshape(-1, 4)
    if config.format == "yxyx":
        rows = rows[:, [1, 0, 3, 2]]
    elif config.format == "xywh":
        rows = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)
    if config.unit == "pixels":
        size = area.input_width, area.input_height
        rows = rows / np.array(size + size, dtype=np.float64)
    offset = area.left, area.top
    scale = area.width, area.height
    placed = np.array(offset + offset) + rows * np.array(scale + scale)
    # `clip` would make an infinite box that of the whole frame.
    placed[~np.isfinite(placed).all(axis=1)] = np.nan
    clipped: _Numbers = np.clip(placed, 0.0, 1.0)
    return clipped


def _numbers(output: pb.Output | None) -> _Numbers:
    if output is None:
        return np.empty(0)
    values = output.numbers or output.integers or output.unsigned_integers
    return np.array(list(values), dtype=np.float64)


def _class(classes: pb.Output | None, index: int, labels: Sequence[str]) -> tuple[int, str]:
    """The number and the name of the class of an object."""
    if classes is None:
        return 0, ""
    if classes.texts:
        text = classes.texts[index] if index < len(classes.texts) else b""
        return sum(text), text.decode(errors="replace")
    values = classes.numbers or classes.integers or classes.unsigned_integers
    value = values[index] if index < len(values) else math.nan
    if not math.isfinite(value):
        return 0, ""
    number = int(value)
    return number, labels[number] if 0 <= number < len(labels) else str(number)
