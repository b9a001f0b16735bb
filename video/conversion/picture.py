"""Converts frames to pictures: RGB pixels, or JPEG for models that take it."""

import math
from functools import lru_cache

import av
import numpy as np
import simplejpeg

from sluice.config.video import FrameSize, Region
from sluice.images.decode import PixelDecoder
from sluice.images.geometry import Fit, Pixels, apply_orientation, upright_size
from sluice.images.header import BrokenImageError, ImageHeader
from video.conversion.converted import Converted, broken_frame
from video.conversion.decoded import FrameScaler, orientation_of
from video.conversion.encoded import check_pixels, read_frame
from video.conversion.part import region_part
from video.frame import DecodedImage, EncodedImage

_SIZES = 16
_QUALITY = 90


class PictureConverter:
    """Converts the frames of one stream to upright pictures. For one thread at a time.

    `size` is the maximum size. A larger picture is scaled down, with its aspect ratio.
    """

    def __init__(self, region: Region, size: FrameSize | None, max_pixels: int) -> None:
        self._region = region
        self._size = size
        self._max_pixels = max_pixels
        self._fit = lru_cache(_SIZES)(self._fit_region)
        self._decoder = PixelDecoder("RGB", "bilinear")
        self._scaler = FrameScaler()

    def pixels(self, image: EncodedImage | DecodedImage) -> Pixels:
        """RGB pixels of a frame. Raises FrameError."""
        if isinstance(image, EncodedImage):
            return self._decoded(read_frame(image.data, self._max_pixels))
        return self._scaled(image.frame)

    def jpeg(self, image: EncodedImage | DecodedImage) -> Converted:
        """A JPEG of a frame: the frame itself, if it is one and need not change.

        Raises FrameError.
        """
        if isinstance(image, EncodedImage):
            header = read_frame(image.data, self._max_pixels)
            stored = header.width, header.height, header.orientation
            changed = not self._fit(*stored).unchanged
            data = _encoded(self._decoded(header)) if changed else image.data
            return Converted(data, (), *upright_size(*stored))
        frame = image.frame
        data = _encoded(self._scaled(frame))
        size = upright_size(frame.width, frame.height, orientation_of(frame))
        return Converted(data, (), *size)

    def _decoded(self, header: ImageHeader) -> Pixels:
        fit = self._fit(header.width, header.height, header.orientation)
        try:
            pixels = self._decoder.decode(header, fit)
        except BrokenImageError as error:
            raise broken_frame(str(error)) from None
        return apply_orientation(pixels, header.orientation)

    def _scaled(self, frame: av.VideoFrame) -> Pixels:
        check_pixels(frame.width, frame.height, self._max_pixels)
        orientation = orientation_of(frame)
        fit = self._fit(frame.width, frame.height, orientation)
        pixels = self._scaler.subsampled(frame, _part(fit), (fit.width, fit.height))
        return apply_orientation(pixels, orientation)

    def _fit_region(self, width: int, height: int, orientation: int) -> Fit:
        part = region_part(self._region, width, height, orientation)
        left, top, right, bottom = part
        limit = self._limit(orientation)
        factor = min(1.0, limit[0] / (right - left), limit[1] / (bottom - top))
        return Fit(
            (width, height),
            (float(left), float(top), float(right), float(bottom)),
            max(1, round((right - left) * factor)),
            max(1, round((bottom - top) * factor)),
        )

    def _limit(self, orientation: int) -> tuple[float, float]:
        """Maximum width and height of the stored image."""
        if self._size is None:
            return math.inf, math.inf
        return upright_size(self._size.width, self._size.height, orientation)


def _part(fit: Fit) -> tuple[int, int, int, int]:
    left, top, right, bottom = map(int, fit.box)
    return left, top, right, bottom


def _encoded(pixels: Pixels) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=_QUALITY, colorsubsampling="420"
    )
    return encoded
