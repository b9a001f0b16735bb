"""Decodes images to the size and the colors of a declared image input."""

from functools import lru_cache, partial

from sluice.config.tensors import ImageInput
from sluice.images.decode import PixelDecoder
from sluice.images.geometry import Fit, FitSize, Pixels, fit_image
from sluice.images.header import ImageHeader
from sluice.images.placement import Placement
from sluice.images.resize import resize_memory

_SIZES = 256
"""Sizes of images for which a decoder remembers how it fits them."""


class ImageDecoder:
    """Decodes images for one declared image input. Safe to share between threads.

    `fit` says how an image is cropped and scaled. Default: as the input declares.
    """

    def __init__(self, image: ImageInput, fit: FitSize | None = None) -> None:
        self._image = image
        self._decoder = PixelDecoder(image.color, image.interpolation, image.background)
        self._placement = Placement(image)
        self._fit_size = lru_cache(_SIZES)(fit or partial(fit_image, image))
        self._scaling_memory = lru_cache(_SIZES)(self._needed_for_scaling)

    def memory(self, header: ImageHeader) -> int:
        """Bytes that decoding needs at most, without the file and the result."""
        scaling = self._scaling_memory(
            header.width, header.height, header.orientation, scalable=header.scalable
        )
        decoded = 0 if header.scalable else header.decoded_size
        return header.coefficients_size + decoded + scaling

    def _needed_for_scaling(
        self, width: int, height: int, orientation: int, *, scalable: bool
    ) -> int:
        """Bytes for an image that is scaled during decoding, if possible, and after it."""
        fit = self._fit_size(width, height, orientation)
        size, decoded = (width, height), 0
        if scalable:
            size = fit.scaled_size(self._image.interpolation)
            decoded = self._image.channels * size[0] * size[1]
        return decoded + resize_memory(size, fit, self._image.interpolation)

    def keeps_size(self, header: ImageHeader) -> bool:
        """Whether an image is neither cropped nor scaled."""
        return self._fit(header).unchanged

    def decode(self, header: ImageHeader, buffer: Pixels | None = None) -> Pixels:
        """Decode an image to the declared size, with its EXIF orientation applied.

        Returns `buffer` if the decoder has written to it. Raises BrokenImageError.
        """
        pixels = self._decoder.decode(header, self._fit(header), buffer)
        return pixels if pixels is buffer else self._placement.place(pixels, header.orientation)

    def _fit(self, header: ImageHeader) -> Fit:
        return self._fit_size(header.width, header.height, header.orientation)
