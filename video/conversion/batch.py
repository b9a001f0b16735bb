"""Puts converted frames together into the raw tensor of a request."""

from collections.abc import Sequence
from itertools import chain

from sluice.config.tensors import TensorInput
from video.conversion.converted import Converted


def batch_tensor(
    declared: TensorInput, frames: Sequence[Converted]
) -> tuple[tuple[int, ...], bytes | memoryview]:
    """The shape and the raw contents of the input. The data of a single frame is not copied.

    A BYTES input gets one element for each frame, and dimensions of 1 behind the first.
    """
    count = len(frames)
    if declared.datatype == "BYTES":
        shape = (count, *(1 for _ in declared.shape[1:])) if declared.shape else ()
        # Each element follows its length (Open Inference Protocol, binary tensor data).
        pieces = ((len(frame.data).to_bytes(4, "little"), frame.data) for frame in frames)
        return shape, b"".join(chain.from_iterable(pieces))
    first = frames[0]
    if len(declared.shape) == len(first.shape):
        return first.shape, first.data
    data = first.data if count == 1 else b"".join(frame.data for frame in frames)
    return (count, *first.shape), data
