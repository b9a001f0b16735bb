"""Converts frames to what a model takes: raw data of tensors, or JPEG.

A stream has one `FrameConverter`. Pictures for people come from a `PictureConverter`.
"""

from video.conversion.batch import batch_tensor
from video.conversion.converted import Converted, FrameError
from video.conversion.converter import FrameConverter
from video.conversion.picture import PictureConverter

__all__ = ["Converted", "FrameConverter", "FrameError", "PictureConverter", "batch_tensor"]
