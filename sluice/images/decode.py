"""Decodes an image to the size and the colors of a declared image input.

libjpeg-turbo (simplejpeg) decodes JPEG and scales the image down during decoding. Pillow decodes
PNG, WebP and JPEG with rare colors. Both release the interpreter lock.
"""

import io
import re
from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError, WebPImagePlugin

from sluice.config.tensors import ImageInput
from sluice.images.geometry import Fit, Pixels, apply_orientation, fit_image
from sluice.images.header import BrokenImageError, ImageHeader, MediaType
from sluice.images.resize import Part, resize, resize_memory

_FORMATS: Mapping[MediaType, str] = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    # Pillow loads all its plugins for a format whose plugin is not imported.
    "image/webp": WebPImagePlugin.WebPImageFile.format,
}
_LUMA = (0.299, 0.587, 0.114)

_SCALES = (8, 4, 2)
"""Factors by which simplejpeg scales an image down. Smaller factors take longer than no scaling."""


_HARMLESS_WARNING = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-7])|Inconsistent progression sequence"
)
"""Warnings of libjpeg after which no pixel is missing: bytes after the data of a scan, except those
of a restart interval, and an unusual order of scans. Other warnings say that coded data are missing
or damaged."""

_JPEG_END = b"\xff\xd9"

_SIZES = 256
"""Sizes of images for which a decoder remembers how it fits them."""


class ImageDecoder:
    """Decodes images for one declared image input. Safe to share between threads."""

    def __init__(self, image: ImageInput) -> None:
        self._image = image
        self._mode = "L" if image.color == "GRAY" else "RGB"
        self._fit_size = lru_cache(_SIZES)(partial(fit_image, image))
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
            size = self._scaled_size(fit)
            decoded = self._image.channels * size[0] * size[1]
        return decoded + resize_memory(size, fit, self._image.interpolation)

    def keeps_size(self, header: ImageHeader) -> bool:
        """Whether an image is neither cropped nor scaled."""
        return self._fit(header).unchanged

    def decode(self, header: ImageHeader, buffer: Pixels | None = None) -> Pixels:
        """Decode an image to the declared size, with its EXIF orientation applied.

        Returns `buffer` if the decoder has written to it. Raises BrokenImageError.
        """
        decode = self._decode_jpeg if header.scalable else self._decode_with_pillow
        fit = self._fit(header)
        try:
            pixels = decode(header, fit, buffer)
        # Pillow's parsers raise various exceptions for damaged data: struct.error, KeyError, ...
        except Exception as error:
            raise _broken(error) from None
        return pixels if pixels is buffer else self._place(pixels, header.orientation)

    def _fit(self, header: ImageHeader) -> Fit:
        return self._fit_size(header.width, header.height, header.orientation)

    def _min_decoded_size(self, fit: Fit) -> tuple[int, int]:
        # The nearest pixel of a scaled image is not a pixel of the image.
        return fit.source if self._image.interpolation == "nearest" else fit.min_decoded_size

    def _scaled_size(self, fit: Fit) -> tuple[int, int]:
        """Maximum size to which simplejpeg decodes the image."""
        min_width, min_height = self._min_decoded_size(fit)
        for scale in _SCALES:
            width, height = (-(-side // scale) for side in fit.source)
            if width >= min_width and height >= min_height:
                return width, height
        return fit.source

    def _decode_jpeg(self, header: ImageHeader, fit: Fit, buffer: Pixels | None) -> Pixels:
        data, color = header.pixel_data(), self._image.color
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        _check_size((width, height), header)
        if buffer is not None and header.orientation == 1 and fit.unchanged:
            _decode_complete_jpeg(data, colorspace=color, buffer=buffer)
            return buffer
        min_width, min_height = self._min_decoded_size(fit)
        pixels = _decode_complete_jpeg(
            data,
            colorspace=color,
            min_width=min_width,
            min_height=min_height,
            min_factor=_SCALES[-1],
        )
        if fit.unchanged:
            return pixels
        height, width, channels = pixels.shape
        plane = pixels[..., 0] if channels == 1 else pixels

        def crop(part: Part) -> Image.Image:
            left, top, right, bottom = part
            return Image.fromarray(plane[top:bottom, left:right])

        return resize(crop, (width, height), fit, self._image.interpolation, channels)

    def _decode_with_pillow(self, header: ImageHeader, fit: Fit, _: Pixels | None) -> Pixels:
        formats = (_FORMATS[header.media_type],)
        with Image.open(io.BytesIO(header.pixel_data()), formats=formats) as image:
            _check_size(image.size, header)
            image.load()

            def crop(part: Part) -> Image.Image:
                whole = part == (0, 0, *image.size)
                return self._convert_colors(image if whole else image.crop(part))

            interpolation, channels = self._image.interpolation, self._image.channels
            pixels = resize(crop, image.size, fit, interpolation, channels)
        return pixels[..., ::-1] if self._image.color == "BGR" else pixels

    def _convert_colors(self, image: Image.Image) -> Image.Image:
        """Convert to mode RGB or L, with the background behind transparent pixels."""
        if image.mode.startswith("I"):
            image = _gray_8_bit(image)
        if image.has_transparency_data:
            opaque = Image.new("RGBA", image.size, (*self._image.background, 255))
            opaque = Image.alpha_composite(opaque, _in_mode(image, "RGBA"))
            return _in_mode(opaque, self._mode)
        return _in_mode(image, self._mode)

    def _place(self, pixels: Pixels, orientation: int) -> Pixels:
        """Apply the EXIF orientation, and center a smaller image on the background."""
        upright = apply_orientation(pixels, orientation)
        image = self._image
        height, width = upright.shape[:2]
        if (height, width) == (image.height, image.width):
            return upright
        canvas = np.empty((image.height, image.width, image.channels), np.uint8)
        canvas[...] = self._background()
        top, left = (image.height - height) // 2, (image.width - width) // 2
        canvas[top : top + height, left : left + width] = upright
        return canvas

    def _background(self) -> tuple[int, ...]:
        red, green, blue = self._image.background
        if self._image.color == "GRAY":
            return (round(sum(w * v for w, v in zip(_LUMA, (red, green, blue), strict=True))),)
        return (blue, green, red) if self._image.color == "BGR" else (red, green, blue)


def _decode_complete_jpeg(data: bytes, **options: object) -> Pixels:
    """Decode a JPEG. Raises ValueError if coded data are missing or damaged."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, **options)
    except ValueError as error:
        # The first warning ends a strict decoder, so a missing end is not reported after it.
        if not (_HARMLESS_WARNING.search(str(error)) and data.endswith(_JPEG_END)):
            raise
        pixels = simplejpeg.decode_jpeg(data, strict=False, **options)
    return pixels


class _SizeMismatchError(Exception):
    """The decoder reads another size from an image than the checks."""


def _check_size(size: tuple[int, int], header: ImageHeader) -> None:
    if size != (header.width, header.height):
        raise _SizeMismatchError("the decoder reads another size")


def _gray_8_bit(image: Image.Image) -> Image.Image:
    """16-bit gray in mode L, or in mode LA if one value is transparent.

    Pillow would clip at 255, and ignore the transparency. The upper byte keeps the brightness.
    """
    gray16 = np.asarray(image)
    gray8 = Image.fromarray((gray16 >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return gray8
    opaque = (gray16 != transparent).astype(np.uint8)
    opaque *= 255
    return Image.merge("LA", (gray8, Image.fromarray(opaque)))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    # `Image.convert` copies an image even if the image already has the mode.
    return image if image.mode == mode else image.convert(mode)


def _broken(error: Exception) -> BrokenImageError:
    # The text of an UnidentifiedImageError contains a memory address, which must not leak.
    cause = "the header is not valid" if isinstance(error, UnidentifiedImageError) else str(error)
    return BrokenImageError(f"cannot be decoded: {cause[:200]}")
