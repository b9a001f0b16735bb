"""The rule about frames of videos that are larger than a request may be."""

from math import prod
from typing import Final

from sluice.config.analysis.rule import Found, Rule
from sluice.config.finding import WarningKind
from sluice.config.gateway import GatewayConfig

_ITEM_SIZES: Final = {"UINT8": 1, "INT8": 1, "FP16": 2, "BF16": 2, "FP32": 4}
"""Bytes of an element, by `IMAGE_DATATYPES`."""


def _large_frames(config: GatewayConfig) -> Found:
    for name, model in config.models.items():
        declared = model.video_input
        if model.video is None or declared is None or declared.image is None:
            continue
        frame = prod(declared.image.shape) * _ITEM_SIZES[declared.datatype]
        frames, max_body = model.video.max_batch, config.requests.max_body_of(model)
        if frame * frames > max_body:
            batch = "a frame has" if frames == 1 else f"{frames} frames have"
            message = f"{batch} {frame * frames} bytes, and max_body is {max_body}"
            yield ("models", name, "video"), message


RULES = (
    Rule(
        WarningKind(
            "large_frames",
            "The tensor of `video.max_batch` frames is larger than `max_body` of the model, so "
            "requests with so many frames are refused (`body_too_large`).",
            "raise max_body, or lower video.max_batch",
        ),
        _large_frames,
    ),
)
