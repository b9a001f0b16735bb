"""Annotated frames: pictures with what the model found, for people to watch."""

from video.annotation.annotator import Annotator
from video.annotation.output import MJPEG_START, MjpegOutput, mjpeg_part

__all__ = ["MJPEG_START", "Annotator", "MjpegOutput", "mjpeg_part"]
