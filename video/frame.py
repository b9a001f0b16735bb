"""Frames of a video, before and after the decoder."""

from dataclasses import dataclass

import av


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A JPEG image that is not decoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded image, with the pixel format of the decoder (mostly planar YUV)."""

    frame: av.VideoFrame


@dataclass(frozen=True, slots=True)
class Frame:
    """A sampled frame of a source.

    `number` counts all frames of the source from 0, also those that are not sampled. `time` is the
    presentation time in seconds since the first frame; it never decreases. `captured` is the time
    (Unix, in seconds) at which the last byte of the frame arrived, and `arrived` the same on the
    monotonic clock.
    """

    number: int
    time: float
    captured: float
    arrived: float
    image: EncodedImage | DecodedImage
