"""The settings of one stream, from the config of a camera or the options of an upload."""

from dataclasses import dataclass

from sluice.config.models import Model
from sluice.config.video import FrameSize, Region
from video.inference.hand_over import Overload


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a stream needs to know apart from its source and its outputs.

    `name` is that of `videos.NAME`, or an id of the upload. `model` is the declared model with
    `video`; its name is `model_name`. `version` is sent to the gateway as `x-model-version`; None:
    the gateway chooses. Times in seconds.
    """

    name: str
    model_name: str
    model: Model
    version: str | None = None
    rate: float | None = None
    region: Region | None = None
    size: FrameSize | None = None
    ordered: bool = True
    overload: Overload = "drop"
    stall_timeout: float = 10.0
    """Time without a frame after which a pulled stream connects again."""
