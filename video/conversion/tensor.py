"""Converts frames to the raw data of a declared image input."""

from functools import lru_cache

import av
import numpy as np

from sluice.config.tensors import TensorInput
from sluice.config.video import Region
from sluice.images.geometry import Fit, Part, Pixels, fit_part, upright_size
from sluice.images.header import BrokenImageError
from sluice.images.image_decoder import ImageDecoder
from sluice.images.normalize import DTYPES, keeps_pixels, normalizer
from sluice.images.placement import Placement
from sluice.images.resize import resize_pixels
from video.conversion.converted import Converted, broken_frame
from video.conversion.decoded import SCALINGS, FrameScaler, orientation_of
from video.conversion.encoded import check_pixels, read_frame
from video.conversion.part import even_part, region_part

_SIZES = 16
"""Sizes of frames for which a converter remembers how it fits them. Most streams have one."""


class TensorConverter:
    """Converts the frames of one stream to tensors. For one thread at a time."""

    def __init__(self, declared: TensorInput, region: Region, max_pixels: int) -> None:
        assert declared.image is not None
        self._image = declared.image
        self._region = region
        self._max_pixels = max_pixels
        self._fit = lru_cache(_SIZES)(self._fit_region)
        self._decoder = ImageDecoder(self._image, self._fit)
        self._scaler = FrameScaler()
        self._placement = Placement(self._image)
        self._dtype = DTYPES[declared.datatype]
        self._normalize = normalizer(self._image, declared.datatype)
        self._keeps_pixels = keeps_pixels(self._image, declared.datatype)

    def from_jpeg(self, data: bytes) -> Converted:
        """Decode and convert a JPEG. Raises FrameError."""
        header = read_frame(data, self._max_pixels)
        out = np.empty(self._image.shape, self._dtype)
        buffer = out if self._keeps_pixels else None
        try:
            pixels = self._decoder.decode(header, buffer)
        except BrokenImageError as error:
            raise broken_frame(str(error)) from None
        if pixels is not buffer:
            self._normalize(pixels, out)
        size = upright_size(header.width, header.height, header.orientation)
        return Converted(_raw(out), self._image.shape, *size)

    def from_frame(self, frame: av.VideoFrame) -> Converted:
        """Convert a decoded frame. Raises FrameError."""
        check_pixels(frame.width, frame.height, self._max_pixels)
        orientation = orientation_of(frame)
        fit = self._fit(frame.width, frame.height, orientation)
        part = even_part(fit.box, *fit.source)
        pixels = self._scaled(frame, part, fit.cropped(part))
        out = np.empty(self._image.shape, self._dtype)
        self._normalize(self._placement.place(pixels, orientation), out)
        size = upright_size(frame.width, frame.height, orientation)
        return Converted(_raw(out), self._image.shape, *size)

    def _fit_region(self, width: int, height: int, orientation: int) -> Fit:
        part = region_part(self._region, width, height, orientation)
        return fit_part(self._image, part, width, height, orientation)

    def _scaled(self, frame: av.VideoFrame, part: Part, fit: Fit) -> Pixels:
        """The pixels of a part of the frame, scaled as `fit` says."""
        interpolation = self._image.interpolation
        if fit.whole and interpolation in SCALINGS:
            return self._pixels(frame, part, (fit.width, fit.height), interpolation)
        pixels = self._pixels(frame, part, fit.scaled_size(interpolation), "area")
        return pixels if fit.unchanged else resize_pixels(pixels, fit, interpolation)

    def _pixels(
        self, frame: av.VideoFrame, part: Part, size: tuple[int, int], scaling: str
    ) -> Pixels:
        """[height, width, channels], in the order of the tensor in memory."""
        if self._image.color == "GRAY":
            return self._scaler.gray(frame, part, size, scaling)[..., None]
        planes = self._scaler.planes(frame, part, size, scaling)
        ordered = planes if self._image.color == "RGB" else planes[::-1]
        if self._image.layout == "NCHW":
            return np.stack(ordered).transpose(1, 2, 0)
        return np.stack(ordered, axis=2)


def _raw(values: np.ndarray) -> memoryview:
    return values.reshape(-1).view(np.uint8).data
