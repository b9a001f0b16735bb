"""What every event of a stream has, and the outputs of the model from which an event is made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EventTimings:
    """Times in milliseconds, as in `Timings` of video.proto."""

    decode: float
    convert: float
    wait: float
    inference: float
    total: float


@dataclass(frozen=True, slots=True)
class EventHead:
    """The fields that all events of frames have, as in `AnalysisResult` of video.proto.

    `id` is `STREAM/SESSION/FRAME`. The session is random for each connection to a camera and each
    upload, so an id is never used for two events.
    """

    id: str
    stream: str
    model: str
    frame: int
    time: float
    captured_us: int
    width: int
    height: int
    timings: EventTimings


@dataclass(frozen=True, slots=True)
class FrameOutput:
    """An output tensor of a model for one frame, without the batch dimension.

    `values` has this shape. It is an array for datatypes of numbers (BF16 as float32, BOOL as
    bool), and a flat sequence for BYTES.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[np.generic] | Sequence[bytes]
