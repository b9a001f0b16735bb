"""How a model analyses video: its input, its capacity, and the limits of uploads."""

from typing import Literal

from pydantic import Field

from sluice.config.tensors import TensorName
from sluice.config.values import Duration, PositiveDuration, Share, Size, Strict


class BoxOutputs(Strict):
    """Outputs of a model that finds objects, for annotated frames. Each has a row per object."""

    boxes: TensorName = Field(description="Output with 4 coordinates for each object.")
    scores: TensorName | None = Field(None, description="Output with the score of each object.")
    classes: TensorName | None = Field(
        None, description="Output with the class of each object: an index of its labels, or text."
    )
    format: Literal["xyxy", "xywh", "yxyx"] = Field(
        "xyxy",
        description="Order of the coordinates: two corners, or the left top corner with width and "
        "height.",
    )
    unit: Literal["pixels", "share"] = Field(
        "pixels",
        description="Unit of the coordinates: pixels of the model's input, or shares of its width "
        "and height.",
    )
    min_score: Share = Field(0.5, description="Objects with a lower score are not drawn.")


class ModelVideo(Strict):
    """Video for a model: clients may send `POST /v2/models/NAME/video`, and `videos` may use it.

    Each sampled frame is one inference. All versions of the model must speak gRPC.
    """

    input: TensorName | None = Field(
        None,
        description="Input that gets the frames: one with `image`, or a BYTES input, which gets "
        "JPEG. Default: the only such input.",
    )
    concurrency: int = Field(
        10, ge=1, le=1000, description="Maximum number of requests in flight for one stream."
    )
    max_batch: int = Field(
        1,
        ge=1,
        le=256,
        description="Frames that the model accepts in one request. The first dimension of the "
        "input must be -1 for more than one.",
    )
    batch_delay: Duration = Field(
        0.0, le=1, description="Time that a frame waits for others of its batch."
    )
    deadline: PositiveDuration = Field(
        5.0,
        le=300,
        description="Time for the result of a frame from its arrival, with all retries. For an "
        "upload that waits for the model: from the moment at which the frame gets a slot.",
    )
    retries: int = Field(
        1,
        ge=0,
        le=5,
        description="Maximum number of retries of a frame. Only failures that may pass are retried "
        "(UNAVAILABLE, RESOURCE_EXHAUSTED), and only within the deadline.",
    )
    max_pixels: int = Field(
        8_912_896, ge=1, le=1 << 26, description="Maximum pixels of a frame, as it comes."
    )
    max_bytes: Size = Field(10 << 30, ge=1, description="Maximum size of an upload.")
    max_duration: PositiveDuration = Field(
        3600.0, description="Maximum time of an upload, and of the call of a watcher."
    )
    max_frames: int = Field(
        1_000_000, ge=1, description="Maximum number of frames of an upload, sampled or not."
    )
    idle_timeout: PositiveDuration = Field(
        30.0, description="Time without data after which an upload ends."
    )
    boxes: BoxOutputs | None = Field(
        None, description="Outputs with boxes, which annotated frames show. Default: labels only."
    )
