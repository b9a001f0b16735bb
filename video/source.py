"""The interface of sources: what cameras and uploads have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sluice.contract.video import VideoReason
from video.frame import Frame


class SourceError(Exception):
    """A source cannot deliver (more) frames. The text says why, without credentials."""

    def __init__(self, reason: VideoReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class SourceCounts:
    """What a source has delivered. One thread writes, others may read.

    `received` counts all frames. Each is sampled, skipped, or `undecodable`. `bytes` counts encoded
    bytes.
    """

    received: int = 0
    skipped: int = 0
    undecodable: int = 0
    bytes: int = 0


class FrameSource(Protocol):
    """Delivers the sampled frames of a video, on a thread of its own."""

    counts: SourceCounts

    def frames(self) -> Iterator[Frame]:
        """The sampled frames, in the order of their presentation times.

        Blocks until the next frame is there. Ends with the video. Raises SourceError.
        """

    def close(self) -> None:
        """End `frames`, also while it blocks. May be called from any thread, and again."""
