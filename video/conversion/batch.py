"""Puts converted frames together into the raw tensor of a request."""

from collections.abc import Sequence

from sluice.config.tensors import TensorInput
from sluice.tensors.datatypes import Raw, pack_bytes
from video.conversion.converted import Converted


def batch_tensor(declared: TensorInput, frames: Sequence[Converted]) -> tuple[tuple[int, ...], Raw]:
    """The shape and the raw contents of the input. The data of a single frame is not copied.

    A BYTES input gets one element for each frame, and dimensions of 1 behind the first.
    """
    count = len(frames)
    if declared.datatype == "BYTES":
        shape = (count, *(1 for _ in declared.shape[1:])) if declared.shape else ()
        return shape, pack_bytes([frame.data for frame in frames])
    first = frames[0]
    if len(declared.shape) == len(first.shape):
        return first.shape, first.data
    data = first.data if count == 1 else b"".join(frame.data for frame in frames)
    return (count, *first.shape), data
