"""Reads a response of the model into one `Inference` for each frame of the request.

Responses are read leniently, by the rules of the callout (`sluice.tensors`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from protos import inference_pb2 as v2
from protos import video_pb2 as pb
from sluice.config.tensors import TensorOutput
from sluice.tensors.contents import raw_contents
from sluice.tensors.datatypes import DATATYPES, bytes_spans
from sluice.tensors.elements import Array, array
from sluice.tensors.labels import TopClasses
from sluice.tensors.shapes import MAX_OUTPUT_DIMENSIONS, fitting_shape
from video.results.typed_contents import typed_elements

MAX_ELEMENTS: Final = 100_000
"""Elements of all outputs of a frame. Events are meant for what a model finds, not for pictures."""
MAX_TEXT: Final = 1 << 20
"""Bytes of all BYTES elements of a frame."""
_MAX_OUTPUTS = 100
_MAX_NAME = 256
"""Characters of a name, and of the version of the model."""

_FLOATS = frozenset(("FP16", "BF16", "FP32", "FP64"))


class ResultError(Exception):
    """A response of a model from which no event can be made. The text says why."""


@dataclass(frozen=True, slots=True)
class _Output:
    """An output of the whole response. `elements` is flat."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Array | list[bytes]


def read_inferences(
    response: v2.ModelInferResponse, frames: int | None, declared: Sequence[TensorOutput]
) -> list[pb.Inference]:
    """The result of each frame of a request.

    `frames` is the size of the batch; None if the input of the model has no batch dimension, so
    that the whole response belongs to one frame. Raises ResultError.
    """
    outputs = _read(response, frames or 1)
    labeled = {output.name: output for output in declared if output.labels}
    version = response.model_version[:_MAX_NAME]
    inferences = [pb.Inference(model_version=version) for _ in range(frames or 1)]
    top = [TopClasses() for _ in inferences]
    for output in outputs:
        parts = [output] if frames is None else _rows(output, frames)
        for part, inference, classes in zip(parts, inferences, top, strict=True):
            _add(inference, part, labeled.get(part.name), classes)
    return inferences


def _read(response: v2.ModelInferResponse, frames: int) -> list[_Output]:
    if len(response.outputs) > _MAX_OUTPUTS:
        raise ResultError(f"the response has more than {_MAX_OUTPUTS} outputs")
    try:
        contents = raw_contents(response.outputs, response.raw_output_contents)
    except ValueError as error:
        raise ResultError(f"the response {error}") from None
    room = _Room(frames)
    return [
        _output(entry, raw, frames, room)
        for entry, raw in zip(response.outputs, contents, strict=True)
    ]


class _Room:
    """What the outputs of a response may still take. Raises ResultError if it is not enough."""

    __slots__ = ("_elements", "_frames", "_text")

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._elements, self._text = frames * MAX_ELEMENTS, frames * MAX_TEXT

    def take(self, elements: int, text: int = 0) -> None:
        self._elements -= elements
        self._text -= text
        if self._elements < 0:
            raise ResultError(f"the outputs have more than {MAX_ELEMENTS} elements for a frame")
        if self._text < 0:
            raise ResultError(f"the BYTES outputs have more than {MAX_TEXT} bytes for a frame")


def _output(
    entry: v2.ModelInferResponse.InferOutputTensor, raw: bytes | None, frames: int, room: _Room
) -> _Output:
    if len(entry.name) > _MAX_NAME:
        raise ResultError(f"the name of an output has more than {_MAX_NAME} characters")
    datatype, name = entry.datatype.upper(), entry.name
    if datatype not in DATATYPES:
        raise ResultError(f"output {name!r} has the unknown datatype {entry.datatype[:40]!r}")
    if len(entry.shape) > MAX_OUTPUT_DIMENSIONS:
        raise ResultError(f"output {name!r} has {len(entry.shape)} dimensions")
    try:
        elements = (
            _raw_elements(raw, datatype, room)
            if raw is not None
            else typed_elements(entry.contents, datatype, room.take)
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ResultError(f"output {name!r}: {error}") from None
    sizes, count = tuple(entry.shape), len(elements)
    if not sizes and count != frames and count % frames == 0:
        # A server that omits the shape: the elements of a frame follow each other.
        sizes = (frames, count // frames)
    shape = fitting_shape(sizes, count)
    if shape is None:
        raise ResultError(f"output {name!r} has {count} elements for the shape {list(sizes)}")
    return _Output(name, datatype, shape, elements)


def _raw_elements(raw: bytes, datatype: str, room: _Room) -> Array | list[bytes]:
    if datatype != "BYTES":
        elements = array(raw, datatype)
        room.take(elements.size)
        return elements
    texts = []
    for start, end in bytes_spans(raw):
        room.take(1, end - start)
        texts.append(raw[start:end])
    return texts


def _rows(output: _Output, frames: int) -> list[_Output]:
    """The part of each frame of a batch."""
    name, shape, elements = output.name, output.shape, output.elements
    if not shape or shape[0] != frames:
        if frames == 1:
            # Such as a list of objects without a batch dimension.
            return [output]
        raise ResultError(f"output {name!r} has the shape {list(shape)} for {frames} frames")
    size = len(elements) // frames
    return [
        _Output(name, output.datatype, shape[1:], elements[i * size : (i + 1) * size])
        for i in range(frames)
    ]


def _add(
    inference: pb.Inference, output: _Output, declared: TensorOutput | None, top: TopClasses
) -> None:
    added = inference.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    elements = output.elements
    if isinstance(elements, list):
        added.texts.extend(elements)
        return
    if output.datatype in _FLOATS:
        added.numbers.extend(elements.tolist())
    elif output.datatype == "UINT64":
        added.unsigned_integers.extend(elements.tolist())
    else:
        # protobuf refuses True and False.
        integers = elements.view(np.uint8) if output.datatype == "BOOL" else elements
        added.integers.extend(integers.tolist())
    if declared is not None:
        # An integer without a dimension of its own is the class of the frame.
        shape = output.shape or (1,)
        for classes in top.of_array(elements, output.datatype, shape, declared):
            added.labels.extend([_label(each) for each in classes])


def _label(found: dict[str, object]) -> pb.Label:
    label = pb.Label(label=str(found["label"] or ""), index=int(str(found["index"])))
    score = found.get("score")
    if isinstance(score, float | np.floating):
        label.score = float(score)
    return label
