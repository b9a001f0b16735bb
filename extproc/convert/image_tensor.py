"""Decodes images to the tensor of a declared image input.

libjpeg-turbo (simplejpeg) decodes JPEG and scales the image down during decoding. Pillow resizes
the result, and decodes PNG, WebP and CMYK JPEG.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from extproc.convert.errors import ConversionError
from extproc.convert.exif import ORIENTATION, jpeg_orientation
from extproc.convert.image_checks import check_pixels
from extproc.convert.image_header import image_type, jpeg_header
from extproc.convert.limits import ConversionLimits
from extproc.convert.normalize import DTYPES, normalizer
from extproc.convert.tensor import Tensor
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason
from sluice.images.geometry import Fit, Pixels, apply_orientation, fit_image

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_JPEG_COLOR_SPACES = frozenset(("RGB", "YCbCr", "Gray"))
"""Color spaces that libjpeg-turbo converts to RGB. It does not convert CMYK and YCCK."""

_LUMA = (0.299, 0.587, 0.114)


class ImageReader:
    """Decodes images for one declared image input. Safe to share between threads."""

    def __init__(self, declared: TensorInput, limits: ConversionLimits) -> None:
        assert declared.image is not None
        self._declared = declared
        self._image = declared.image
        self._limits = limits
        self._dtype = DTYPES[declared.datatype]
        self._mode = "L" if declared.image.color == "GRAY" else "RGB"
        self._normalize = normalizer(declared.image, declared.datatype)
        self._pixels_are_values = (
            declared.datatype == "UINT8"
            and declared.image.layout == "NHWC"
            and not declared.image.normalized
        )
        self._image_bytes = math.prod(declared.image.shape) * self._dtype.itemsize

    def tensor(self, images: Sequence[bytes], fields: Sequence[str]) -> Tensor:
        """Decode a batch of images to a tensor. `fields` are the names of the images in errors.

        Raises ConversionError: 400 for an image that cannot be decoded, 413 for too many pixels or
        bytes, 415 for data other than JPEG, PNG and WebP, 422 for a batch that does not fit the
        declared shape.
        """
        shape = self._shape(len(images), fields)
        max_bytes = self._limits.max_tensor_bytes
        if len(images) * self._image_bytes > max_bytes:
            raise ConversionError(
                Reason.TENSORS_TOO_LARGE,
                fields[0],
                f"the tensor must have at most {max_bytes} bytes",
            )
        check_pixels(images, fields, self._image.max_pixels, self._limits)
        batch = np.empty((len(images), *self._image.shape), self._dtype)
        for out, data, field in zip(batch, images, fields, strict=True):
            buffer = out if self._pixels_are_values else None
            pixels = self._decode(data, field, buffer)
            if pixels is not buffer:
                self._normalize(pixels, out)
        return Tensor(
            self._declared.name,
            self._declared.datatype,
            shape,
            batch.reshape(-1).view(np.uint8).data,
            field=fields[0],
        )

    def _shape(self, count: int, fields: Sequence[str]) -> tuple[int, ...]:
        declared = self._declared.shape
        batch = 1 if len(declared) == 3 else declared[0]
        if batch not in (-1, count):
            raise ConversionError(
                Reason.WRONG_COUNT, fields[0], f"the model accepts {batch} images, not {count}"
            )
        return self._image.shape if len(declared) == 3 else (count, *self._image.shape)

    def _decode(self, data: bytes, field: str, buffer: Pixels | None) -> Pixels:
        """Decode an image to the declared size, with its EXIF orientation applied.

        Returns `buffer` if the decoder has written to it.
        """
        if image_type(data) == "image/jpeg":
            pixels = self._decode_jpeg(data, field, buffer)
            if pixels is not None:
                return pixels
        return self._decode_with_pillow(data, field)

    def _decode_jpeg(self, data: bytes, field: str, buffer: Pixels | None) -> Pixels | None:
        """Decode with libjpeg-turbo; None for images that only Pillow decodes.

        These are CMYK and YCCK images, and images with rare subsamplings.
        """
        header = jpeg_header(data)
        if header is None or header.color_space not in _JPEG_COLOR_SPACES:
            return None
        orientation = jpeg_orientation(data)
        fit = fit_image(self._image, header.width, header.height, orientation)
        nearest = self._image.interpolation == "nearest"
        min_width, min_height = (0, 0) if nearest else fit.min_decoded_size
        try:
            if buffer is not None and orientation == 1 and fit.unchanged:
                simplejpeg.decode_jpeg(data, colorspace=self._image.color, buffer=buffer)
                return buffer
            pixels: Pixels = simplejpeg.decode_jpeg(
                data,
                colorspace=self._image.color,
                min_width=min_width,
                min_height=min_height,
                min_factor=2,
            )
        except ValueError as error:
            raise _broken(field, error) from None
        if not fit.unchanged:
            gray = pixels.shape[2] == 1
            pixels = self._resize(Image.fromarray(pixels[..., 0] if gray else pixels), fit)
        return self._place(pixels, fit, orientation)

    def _decode_with_pillow(self, data: bytes, field: str) -> Pixels:
        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as image:
                orientation = image.getexif().get(ORIENTATION, 1)
                if orientation not in range(1, 9):
                    orientation = 1
                fit = fit_image(self._image, image.width, image.height, orientation)
                pixels = self._resize(self._convert_colors(image), fit)
        except Image.DecompressionBombError as error:
            raise ConversionError(Reason.TOO_MANY_PIXELS, field, str(error)) from None
        # Pillow's parsers raise various exceptions for damaged data: struct.error, KeyError, ...
        except Exception as error:
            raise _broken(field, error) from None
        if self._image.color == "BGR":
            pixels = pixels[..., ::-1]
        return self._place(pixels, fit, orientation)

    def _convert_colors(self, image: Image.Image) -> Image.Image:
        """Convert to mode RGB or L, with the background behind transparent pixels."""
        if image.mode.startswith("I"):
            # Pillow clips 16-bit gray at 255. The upper byte keeps the brightness.
            gray16 = np.asarray(image)
            gray8 = (gray16 >> 8).clip(0, 255).astype(np.uint8)
            return _in_mode(Image.fromarray(gray8), self._mode)
        if image.has_transparency_data:
            opaque = Image.new("RGBA", image.size, (*self._image.background, 255))
            opaque.alpha_composite(_in_mode(image, "RGBA"))
            return _in_mode(opaque, self._mode)
        return _in_mode(image, self._mode)

    def _resize(self, image: Image.Image, fit: Fit) -> Pixels:
        """Crop and resize an image as `fit` says. The decoder may have scaled the image already."""
        box = fit.scaled_box(image.width, image.height)
        resampling = _RESAMPLING[self._image.interpolation]
        pixels = np.asarray(image.resize((fit.width, fit.height), resampling, box))
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _place(self, pixels: Pixels, fit: Fit, orientation: int) -> Pixels:
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


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    # `Image.convert` copies an image even if the image already has the mode.
    return image if image.mode == mode else image.convert(mode)


def _broken(field: str, error: Exception) -> ConversionError:
    # The text of an UnidentifiedImageError contains a memory address, which must not leak.
    cause = "the header is not valid" if isinstance(error, UnidentifiedImageError) else str(error)
    return ConversionError(Reason.BROKEN_IMAGE, field, f"cannot be decoded: {cause[:200]}")
