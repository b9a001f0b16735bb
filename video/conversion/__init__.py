"""Conversion of frames for a model."""

from video.conversion.batch import batch_tensor
from video.conversion.converted import Converted, FrameError

__all__ = ["Converted", "FrameError", "batch_tensor"]
