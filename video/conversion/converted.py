"""A converted frame, and why a frame cannot be converted."""

from dataclasses import dataclass

from sluice.contract.video import VideoReason
from sluice.tensors.datatypes import Raw


@dataclass(frozen=True, slots=True)
class Converted:
    """The raw tensor of one frame, without the batch dimension; for a BYTES input, the JPEG.

    `width` and `height` are those of the whole upright frame, as it came.
    """

    data: Raw
    shape: tuple[int, ...]
    width: int
    height: int


class FrameError(Exception):
    """A frame cannot be converted. The text says why. The stream goes on with the next frame."""

    def __init__(self, reason: VideoReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def broken_frame(detail: str) -> FrameError:
    """The error for a frame that is damaged, or has a format that is not supported."""
    return FrameError(VideoReason.BROKEN_FRAME, detail)
