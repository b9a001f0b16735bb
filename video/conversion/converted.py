"""A converted frame, and why a frame cannot be converted."""

from dataclasses import dataclass

from sluice.contract.video import VideoReason


@dataclass(frozen=True, slots=True)
class Converted:
    """The raw tensor of one frame, without the batch dimension; for a BYTES input, the JPEG.

    `width` and `height` are those of the frame as it came.
    """

    data: bytes | memoryview
    shape: tuple[int, ...]
    width: int
    height: int


class FrameError(Exception):
    """A frame cannot be converted. The text says why."""

    def __init__(self, reason: VideoReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
