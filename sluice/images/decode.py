"""Decodes images to the colors and the size that are asked for.

libjpeg-turbo (simplejpeg) decodes JPEG and scales the image down during decoding. Pillow decodes
PNG, WebP and JPEG with rare colors. Both release the interpreter lock.
"""

import io
import re
from collections.abc import Mapping

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError, WebPImagePlugin

from sluice.images.geometry import SCALES, Fit, Part, Pixels
from sluice.images.header import BrokenImageError, ImageHeader, MediaType
from sluice.images.resize import resize, resize_pixels

_FORMATS: Mapping[MediaType, str] = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    # Pillow loads all its plugins for a format whose plugin is not imported.
    "image/webp": WebPImagePlugin.WebPImageFile.format,
}

_HARMLESS_WARNING = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-7])|Inconsistent progression sequence"
)
"""Warnings of libjpeg after which no pixel is missing: bytes after the data of a scan, except those
of a restart interval, and an unusual order of scans. Other warnings say that coded data are missing
or damaged."""

_JPEG_END = b"\xff\xd9"

WHITE = (255, 255, 255)


class PixelDecoder:
    """Decodes images to pixels of one kind. Safe to share between threads.

    `color` is RGB, BGR or GRAY. `background` is the RGB color behind transparent pixels.
    """

    def __init__(
        self, color: str, interpolation: str, background: tuple[int, int, int] = WHITE
    ) -> None:
        self._color = color
        self._interpolation = interpolation
        self._background = background
        self._mode = "L" if color == "GRAY" else "RGB"
        self._channels = 1 if color == "GRAY" else 3

    def decode(self, header: ImageHeader, fit: Fit, buffer: Pixels | None = None) -> Pixels:
        """Decode an image, and crop and scale it as `fit` says.

        The orientation is not applied. Returns `buffer` if the decoder has written to it; it gets
        only an upright image that is neither cropped nor scaled. Raises BrokenImageError.
        """
        decode = self._decode_jpeg if header.scalable else self._decode_with_pillow
        try:
            return decode(header, fit, buffer)
        # Pillow's parsers raise various exceptions for damaged data: struct.error, KeyError, ...
        except Exception as error:
            raise _broken(error) from None

    def _decode_jpeg(self, header: ImageHeader, fit: Fit, buffer: Pixels | None) -> Pixels:
        data, color = header.pixel_data(), self._color
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        _check_size((width, height), header)
        if buffer is not None and header.orientation == 1 and fit.unchanged:
            _decode_complete_jpeg(data, colorspace=color, buffer=buffer)
            return buffer
        min_width, min_height = fit.min_scaled_size(self._interpolation)
        pixels = _decode_complete_jpeg(
            data,
            colorspace=color,
            min_width=min_width,
            min_height=min_height,
            min_factor=SCALES[-1],
        )
        return pixels if fit.unchanged else resize_pixels(pixels, fit, self._interpolation)

    def _decode_with_pillow(self, header: ImageHeader, fit: Fit, _: Pixels | None) -> Pixels:
        formats = (_FORMATS[header.media_type],)
        with Image.open(io.BytesIO(header.pixel_data()), formats=formats) as image:
            _check_size(image.size, header)
            image.load()

            def crop(part: Part) -> Image.Image:
                whole = part == (0, 0, *image.size)
                return self._convert_colors(image if whole else image.crop(part))

            pixels = resize(crop, image.size, fit, self._interpolation, self._channels)
        return pixels[..., ::-1] if self._color == "BGR" else pixels

    def _convert_colors(self, image: Image.Image) -> Image.Image:
        """Convert to mode RGB or L, with the background behind transparent pixels."""
        if image.mode.startswith("I"):
            image = _gray_8_bit(image)
        if image.has_transparency_data:
            opaque = Image.new("RGBA", image.size, (*self._background, 255))
            opaque = Image.alpha_composite(opaque, _in_mode(image, "RGBA"))
            return _in_mode(opaque, self._mode)
        return _in_mode(image, self._mode)


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
