"""A sampled frame on its way from the source to its event."""

import logging
import time
from dataclasses import dataclass
from typing import Protocol

from protos.video_pb2 import Inference
from sluice.contract.video import VideoReason
from video.conversion import Converted, FrameError
from video.frame import DecodedImage, EncodedImage, Frame
from video.inference.failure import Failure

log = logging.getLogger(__name__)


class Converter(Protocol):
    """Converts images for a model. Used by one thread at a time (video.conversion)."""

    def convert(self, image: EncodedImage | DecodedImage) -> Converted:
        """Convert an image. Raises FrameError."""


@dataclass(slots=True, eq=False)
class PendingFrame:
    """A frame without an event.

    Times are on the monotonic clock, in seconds. Until `taken`, the frame belongs to the source
    thread or to the thread that converts it; then to the event loop.
    """

    frame: Frame | None
    """None once it is converted, unless an output wants it."""
    number: int
    time: float
    captured: float
    arrived: float
    decoded: float
    """When the source delivered it."""
    converted: Converted | None = None
    convert_seconds: float = 0.0
    taken: float = 0.0
    """When it got a slot."""
    sent: float = 0.0
    answered: float = 0.0
    width: int = 0
    height: int = 0
    outcome: Inference | Failure | None = None

    @classmethod
    def of(cls, frame: Frame) -> "PendingFrame":
        """The frame that the source delivers now."""
        now = time.monotonic()
        return cls(frame, frame.number, frame.time, frame.captured, frame.arrived, now)

    def convert(self, converter: Converter, *, keep_frame: bool) -> None:
        """Convert the frame. A frame that cannot be converted gets its outcome."""
        assert self.frame is not None
        started = time.monotonic()
        try:
            converted = converter.convert(self.frame.image)
        except FrameError as error:
            self.outcome = Failure(error.reason, error.detail)
        except Exception:
            log.exception("a frame cannot be converted")
            self.outcome = Failure(VideoReason.INTERNAL_ERROR, "the frame cannot be converted")
        else:
            self.converted = converted
            self.width, self.height = converted.width, converted.height
        self.convert_seconds = time.monotonic() - started
        if not keep_frame:
            self.frame = None
