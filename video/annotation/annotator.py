"""Makes the annotated picture of a frame."""

from typing import Final

import numpy as np
import simplejpeg

from protos import video_pb2 as pb
from sluice.config.models import Model
from sluice.config.video import FrameSize, Region
from sluice.images.geometry import Pixels
from video.annotation.area import input_area
from video.annotation.boxes import Box, find_boxes
from video.annotation.captions import captions
from video.annotation.drawing import draw
from video.conversion import PictureConverter
from video.frame import Frame

_SIZE: Final = FrameSize(width=1280, height=720)
"""Maximum size of a picture. People watch it; the model gets the frame as it is."""
_QUALITY: Final = 80


class Annotator:
    """Draws the results of one stream on its frames. For one thread at a time.

    `region` and `size` are those of the stream.
    """

    def __init__(self, model: Model, region: Region | None, size: FrameSize | None) -> None:
        video = model.video
        assert video is not None
        declared = model.video_input
        self._image = None if declared is None else declared.image
        self._outputs, self._boxes = model.outputs, video.boxes
        self._region, self._size = region or Region(), size
        self._pictures = PictureConverter(Region(), _SIZE, video.max_pixels)

    def jpeg(self, event: pb.AnalysisResult, frame: Frame) -> bytes:
        """The frame as JPEG, with what the event says. Raises FrameError."""
        pixels = self._pictures.pixels(frame.image)
        names: list[str] = []
        if self._boxes is not None:
            found = (self._boxes.boxes, self._boxes.scores, self._boxes.classes)
            names = [name for name in found if name is not None]
        lines = [*captions(event, names), f"frame {event.frame}  {event.time:.2f} s"]
        drawn = draw(pixels, self._found_boxes(event, pixels), lines, self._shown_region())
        encoded: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(drawn), quality=_QUALITY, colorsubsampling="420"
        )
        return encoded

    def _found_boxes(self, event: pb.AnalysisResult, pixels: Pixels) -> list[Box]:
        if self._boxes is None or not event.HasField("inference"):
            return []
        height, width = pixels.shape[:2]
        width, height = event.width or width, event.height or height
        area = input_area(self._image, self._region, self._size, width, height)
        return find_boxes(event.inference, self._boxes, area, self._outputs)

    def _shown_region(self) -> tuple[float, float, float, float] | None:
        region = self._region
        if region.whole:
            return None
        right, bottom = region.left + region.width, region.top + region.height
        return region.left, region.top, min(1.0, right), min(1.0, bottom)
