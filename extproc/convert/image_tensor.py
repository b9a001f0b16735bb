"""Decodes encoded pictures into the tensor of a declared image input.

JPEG goes through libjpeg-turbo (simplejpeg), decoded straight to the nearest smaller size that is
still large enough; PNG, WebP and CMYK JPEG go through Pillow.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from extproc.convert.errors import ConversionError
from extproc.convert.exif import jpeg_orientation
from extproc.convert.image_header import image_size, jpeg_header
from extproc.convert.limits import ConversionLimits
from extproc.convert.media_types import IMAGES, sniff
from extproc.convert.normalize import DTYPES, normalizer
from extproc.convert.tensor import Tensor
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason
from sluice.images.geometry import Fit, Pixels, fitted, upright

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_PLAIN_COLOURS = frozenset(("RGB", "YCbCr", "Gray"))
_EXIF_ORIENTATION = 0x0112
_SHORTEST_SCAN = 10
"""Bytes of a JPEG scan's header with one component (ITU-T T.81 section B.2.3)."""
_LUMA = (0.299, 0.587, 0.114)


class ImageReader:
    """Makes tensors of one declared image input. Holds its lookup tables; safe in threads."""

    def __init__(self, declared: TensorInput, limits: ConversionLimits) -> None:
        assert declared.image is not None
        self._declared = declared
        self._image = declared.image
        self._limits = limits
        self._dtype = DTYPES[declared.datatype]
        self._mode = "L" if declared.image.color == "GRAY" else "RGB"
        self._reversed = declared.image.color == "BGR"
        self._normalize = normalizer(declared.image, declared.datatype)
        self._plain = (
            declared.datatype == "UINT8"
            and declared.image.layout == "NHWC"
            and not declared.image.normalised
        )
        self._item = math.prod(declared.image.shape) * self._dtype.itemsize

    def tensor(self, pictures: Sequence[bytes], places: Sequence[str]) -> Tensor:
        """One tensor of a batch of pictures; `places` names each in errors.

        Raises ConversionError: 400 for a damaged picture, 413 for too many pixels or bytes, 415 for
        what is no JPEG, PNG or WebP, 422 for a batch that the model does not take.
        """
        shape = self._shape(len(pictures), places)
        if len(pictures) * self._item > self._limits.max_tensor_bytes:
            raise ConversionError(
                Reason.TENSORS_TOO_LARGE,
                places[0],
                f"exceeds {self._limits.max_tensor_bytes} bytes",
            )
        self._check_pixels(pictures, places)
        batch = np.empty((len(pictures), *self._image.shape), self._dtype)
        for tensor, data, place in zip(batch, pictures, places, strict=True):
            room = tensor if self._plain else None
            pixels = self._pixels(data, place, room)
            if pixels is not room:
                self._normalize(pixels, tensor)
        return Tensor(
            self._declared.name,
            self._declared.datatype,
            shape,
            batch.reshape(-1).view(np.uint8).data,
            field=places[0],
        )

    def _shape(self, count: int, places: Sequence[str]) -> tuple[int, ...]:
        declared = self._declared.shape
        batch = 1 if len(declared) == 3 else declared[0]
        if batch not in (-1, count):
            raise ConversionError(
                Reason.WRONG_COUNT,
                places[0],
                f"the model takes {batch} pictures, {count} were sent",
            )
        return self._image.shape if len(declared) == 3 else (count, *self._image.shape)

    def _check_pixels(self, pictures: Sequence[bytes], places: Sequence[str]) -> None:
        left = self._image.max_pixels
        for data, place in zip(pictures, places, strict=True):
            width, height = _checked_size(data, place)
            left -= width * height
            if left < 0:
                raise ConversionError(
                    Reason.TOO_MANY_PIXELS,
                    place,
                    f"{width} x {height}: a request may hold {self._image.max_pixels} pixels",
                )
            _check_passes(data, width * height, place, self._limits)

    def _pixels(self, data: bytes, place: str, room: Pixels | None) -> Pixels:
        """[height, width, channels] of the declared size, upright; `room` itself if filled."""
        if sniff(data) == "image/jpeg":
            picture = self._jpeg(data, place, room)
            if picture is not None:
                return picture
        return self._other(data, place)

    def _jpeg(self, data: bytes, place: str, room: Pixels | None) -> Pixels | None:
        """None for what only Pillow decodes: CMYK and YCCK, and rare subsamplings."""
        header = jpeg_header(data)
        if header is None or header.colors not in _PLAIN_COLOURS:
            return None
        orientation = jpeg_orientation(data)
        fit = fitted(self._image, header.width, header.height, orientation)
        least = (0, 0) if self._image.interpolation == "nearest" else fit.least_source
        try:
            if room is not None and orientation == 1 and fit.unchanged:
                simplejpeg.decode_jpeg(data, colorspace=self._image.color, buffer=room)
                return room
            pixels: Pixels = simplejpeg.decode_jpeg(
                data,
                colorspace=self._image.color,
                min_width=least[0],
                min_height=least[1],
                min_factor=2,
            )
        except ValueError as error:
            raise _damaged(place, error) from None
        if not fit.unchanged:
            grey = pixels.shape[2] == 1
            image = Image.fromarray(pixels[..., 0] if grey else pixels)
            pixels = self._drawn(image, fit)
        return self._placed(pixels, fit, orientation)

    def _other(self, data: bytes, place: str) -> Pixels:
        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as picture:
                orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
                if orientation not in range(1, 9):
                    orientation = 1
                fit = fitted(self._image, picture.width, picture.height, orientation)
                drawn = self._drawn(self._coloured(picture), fit)
        except Image.DecompressionBombError as error:
            raise ConversionError(Reason.TOO_MANY_PIXELS, place, str(error)) from None
        # Pillow's parsers raise whatever a damaged byte makes of them: struct.error, KeyError, ...
        except Exception as error:
            raise _damaged(place, error) from None
        return self._placed(drawn[..., ::-1] if self._reversed else drawn, fit, orientation)

    def _coloured(self, picture: Image.Image) -> Image.Image:
        """The picture in mode RGB or L, as the model wants it."""
        if picture.mode.startswith("I"):
            # Pillow clips 16-bit grey when it converts; the upper byte is what it means.
            deep = np.asarray(picture)
            return _in_mode(Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8)), self._mode)
        if picture.has_transparency_data:
            opaque = Image.new("RGBA", picture.size, (*self._image.background, 255))
            opaque.alpha_composite(_in_mode(picture, "RGBA"))
            return _in_mode(opaque, self._mode)
        return _in_mode(picture, self._mode)

    def _drawn(self, picture: Image.Image, fit: Fit) -> Pixels:
        """The part of a picture, of whatever scale, that the tensor shows, at its size there."""
        box = fit.box_at(picture.width, picture.height)
        filter_ = _RESAMPLING[self._image.interpolation]
        drawn = np.asarray(picture.resize((fit.width, fit.height), filter_, box))
        return drawn[..., None] if drawn.ndim == 2 else drawn

    def _placed(self, drawn: Pixels, fit: Fit, orientation: int) -> Pixels:
        """Upright, and with the background around it where the picture was padded."""
        placed = upright(drawn, orientation)
        image = self._image
        if placed.shape[:2] == (image.height, image.width):
            return placed
        canvas = np.empty((image.height, image.width, image.channels), np.uint8)
        canvas[...] = self._background()
        height, width = placed.shape[:2]
        top, left = (image.height - height) // 2, (image.width - width) // 2
        canvas[top : top + height, left : left + width] = placed
        return canvas

    def _background(self) -> tuple[int, ...]:
        red, green, blue = self._image.background
        if self._image.color == "GRAY":
            return (round(sum(w * v for w, v in zip(_LUMA, (red, green, blue), strict=True))),)
        return (blue, green, red) if self._image.color == "BGR" else (red, green, blue)


def check_type(data: bytes, declared: str, place: str) -> None:
    """Raises ConversionError (400, 415) unless the bytes are an image of the declared type."""
    if not data:
        raise ConversionError(Reason.EMPTY_BODY, place, "is empty")
    found = sniff(data)
    if found is None:
        raise ConversionError(Reason.NOT_AN_IMAGE, place, "is no JPEG, PNG or WebP picture")
    if declared in IMAGES and found != declared:
        raise ConversionError(
            Reason.CONTENT_TYPE_MISMATCH, place, f"is said to be {declared}, and is {found}"
        )


def _checked_size(data: bytes, place: str) -> tuple[int, int]:
    kind = sniff(data)
    if kind is None:
        raise ConversionError(Reason.NOT_AN_IMAGE, place, "is no JPEG, PNG or WebP picture")
    size = image_size(data, kind)
    if size is None or 0 in size:
        raise ConversionError(Reason.BROKEN_IMAGE, place, "has a damaged header")
    return size


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    # `convert` copies a picture even when there is nothing to convert.
    return picture if picture.mode == mode else picture.convert(mode)


def _check_passes(data: bytes, pixels: int, place: str, limits: ConversionLimits) -> None:
    # Only a long file can hold the scans that would cross the limit: most need no counting.
    if pixels * len(data) // _SHORTEST_SCAN <= limits.max_jpeg_passes:
        return
    if sniff(data) == "image/jpeg" and pixels * data.count(b"\xff\xda") > limits.max_jpeg_passes:
        raise ConversionError(
            Reason.TOO_MANY_SCANS, place, "has more JPEG scans than its size allows"
        )


def _damaged(place: str, error: Exception) -> ConversionError:
    # That message shows where in memory the picture is.
    cause = "the header is damaged" if isinstance(error, UnidentifiedImageError) else str(error)
    return ConversionError(Reason.BROKEN_IMAGE, place, f"cannot be decoded: {cause[:200]}")
