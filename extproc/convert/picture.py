"""Decodes encoded pictures into the tensor of a declared image input.

JPEG goes through libjpeg-turbo (simplejpeg), decoded straight to the nearest smaller size that is
still large enough; PNG, WebP and CMYK JPEG go through Pillow.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from extproc.convert.errors import Unconvertible, malformed, too_large, unfitting, unsupported
from extproc.convert.exif import jpeg_orientation
from extproc.convert.limits import Limits
from extproc.convert.media import IMAGES, sniff
from extproc.convert.normalise import DTYPES, Pixels, normaliser
from extproc.convert.picture_size import png_size, webp_size
from extproc.convert.tensor import Tensor
from sluice.config.tensors import TensorInput

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


@dataclass(frozen=True, slots=True)
class _Geometry:
    """How a picture of a certain size fills the declared one: `box` (left, top, right, bottom) of

    the source is drawn `width` x `height` large, its corner at (`left`, `top`).
    """

    box: tuple[float, float, float, float]
    width: int
    height: int
    left: int = 0
    top: int = 0


class PictureReader:
    """Makes tensors of one declared image input. Holds its lookup tables; safe in threads."""

    def __init__(self, declared: TensorInput, limits: Limits) -> None:
        assert declared.image is not None
        self._declared = declared
        self._image = declared.image
        self._limits = limits
        self._dtype = DTYPES[declared.datatype]
        self._normalise = normaliser(declared.image, declared.datatype)
        self._plain = (
            declared.datatype == "UINT8"
            and declared.image.layout == "NHWC"
            and not declared.image.normalised
        )
        self._item = math.prod(declared.image.shape) * self._dtype.itemsize

    def tensor(self, pictures: Sequence[bytes], places: Sequence[str]) -> Tensor:
        """One tensor of a batch of pictures; `places` names each in errors.

        Raises Unconvertible: 400 for a damaged picture, 413 for too many pixels or bytes, 415 for
        what is no JPEG, PNG or WebP, 422 for a batch that the model does not take.
        """
        shape = self._shape(len(pictures), places)
        if len(pictures) * self._item > self._limits.max_tensor_bytes:
            raise too_large(
                "tensors-too-large", places[0], f"exceeds {self._limits.max_tensor_bytes} bytes"
            )
        self._check_pixels(pictures, places)
        batch = np.empty((len(pictures), *self._image.shape), self._dtype)
        for tensor, data, place in zip(batch, pictures, places, strict=True):
            room = tensor if self._plain else None
            pixels = self._pixels(data, place, room)
            if pixels is not room:
                self._normalise(pixels, tensor)
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
            raise unfitting(
                "wrong-count", places[0], f"the model takes {batch} pictures, {count} were sent"
            )
        return self._image.shape if len(declared) == 3 else (count, *self._image.shape)

    def _check_pixels(self, pictures: Sequence[bytes], places: Sequence[str]) -> None:
        left = self._image.max_pixels
        for data, place in zip(pictures, places, strict=True):
            width, height = _size(data, place)
            left -= width * height
            if left < 0:
                raise too_large(
                    "too-many-pixels",
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
        header = _jpeg_header(data)
        if header is None or header.colours not in _PLAIN_COLOURS:
            return None
        width, height = header.width, header.height
        orientation = jpeg_orientation(data)
        try:
            if room is not None and orientation == 1 and room.shape[:2] == (height, width):
                simplejpeg.decode_jpeg(data, colorspace=self._image.colour, buffer=room)
                return room
            geometry = self._geometry(width, height, orientation)
            least = self._least(width, height, geometry)
            pixels: Pixels = simplejpeg.decode_jpeg(
                data,
                colorspace=self._image.colour,
                min_width=least[0],
                min_height=least[1],
                min_factor=2,
            )
        except ValueError as error:
            raise _damaged(place, error) from None
        scaled = pixels.shape[1] / width, pixels.shape[0] / height
        return self._fitted(pixels, geometry, scaled, orientation)

    def _other(self, data: bytes, place: str) -> Pixels:
        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as picture:
                orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
                if orientation not in range(1, 9):
                    orientation = 1
                pixels = self._coloured(picture)
        except Image.DecompressionBombError as error:
            raise too_large("too-many-pixels", place, str(error)) from None
        # Pillow's parsers raise whatever a damaged byte makes of them: struct.error, KeyError, ...
        except Exception as error:
            raise _damaged(place, error) from None
        geometry = self._geometry(pixels.shape[1], pixels.shape[0], orientation)
        return self._fitted(pixels, geometry, (1.0, 1.0), orientation)

    def _coloured(self, picture: Image.Image) -> Pixels:
        if picture.mode.startswith("I"):
            # Pillow clips 16-bit grey when it converts; the upper byte is what it means.
            deep = np.asarray(picture)
            grey = Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8))
            return self._channels(grey)
        if picture.has_transparency_data:
            opaque = Image.new("RGBA", picture.size, (*self._image.background, 255))
            opaque.alpha_composite(picture.convert("RGBA"))
            return self._channels(opaque.convert("RGB"))
        return self._channels(picture)

    def _channels(self, picture: Image.Image) -> Pixels:
        if self._image.colour == "GRAY":
            return np.asarray(picture.convert("L"))[..., None]
        pixels = np.asarray(picture.convert("RGB"))
        return pixels[..., ::-1] if self._image.colour == "BGR" else pixels

    def _geometry(self, width: int, height: int, orientation: int) -> _Geometry:
        """In the picture as it is stored: a turned one is drawn turned, and put upright at last."""
        image = self._image
        to_width, to_height = image.width, image.height
        if orientation >= 5:
            to_width, to_height = to_height, to_width
        if image.resize == "crop":
            factor = max(to_width / width, to_height / height) / image.crop_fraction
            box_width, box_height = to_width / factor, to_height / factor
            left, top = (width - box_width) / 2, (height - box_height) / 2
            # Within the picture even after rounding: Pillow refuses a box that sticks out.
            box = (
                max(left, 0.0),
                max(top, 0.0),
                min(left + box_width, float(width)),
                min(top + box_height, float(height)),
            )
            return _Geometry(box, to_width, to_height)
        whole = (0.0, 0.0, float(width), float(height))
        if image.resize == "stretch":
            return _Geometry(whole, to_width, to_height)
        factor = min(to_width / width, to_height / height)
        inner_width = min(to_width, max(1, round(width * factor)))
        inner_height = min(to_height, max(1, round(height * factor)))
        left, top = (to_width - inner_width) // 2, (to_height - inner_height) // 2
        return _Geometry(whole, inner_width, inner_height, left, top)

    def _least(self, width: int, height: int, geometry: _Geometry) -> tuple[int, int]:
        """The smallest size to decode at, so that nothing needs enlarging afterwards."""
        if self._image.interpolation == "nearest":
            return width, height
        left, top, right, bottom = geometry.box
        across, down = geometry.width / (right - left), geometry.height / (bottom - top)
        return min(width, math.ceil(width * across)), min(height, math.ceil(height * down))

    def _fitted(
        self,
        pixels: Pixels,
        geometry: _Geometry,
        scaled: tuple[float, float],
        orientation: int,
    ) -> Pixels:
        box = (
            geometry.box[0] * scaled[0],
            geometry.box[1] * scaled[1],
            min(geometry.box[2] * scaled[0], float(pixels.shape[1])),
            min(geometry.box[3] * scaled[1], float(pixels.shape[0])),
        )
        drawn = self._resized(pixels, box, (geometry.width, geometry.height))
        upright = _upright(drawn, orientation)
        if upright.shape[:2] == (self._image.height, self._image.width):
            return upright
        top, left = geometry.top, geometry.left
        if orientation >= 5:
            top, left = left, top
        canvas = np.empty((self._image.height, self._image.width, self._image.channels), np.uint8)
        canvas[...] = self._background()
        canvas[top : top + upright.shape[0], left : left + upright.shape[1]] = upright
        return canvas

    def _resized(
        self, pixels: Pixels, box: tuple[float, float, float, float], size: tuple[int, int]
    ) -> Pixels:
        height, width = pixels.shape[:2]
        if (width, height) == size and box == (0.0, 0.0, float(width), float(height)):
            return pixels
        flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        resized = Image.fromarray(np.ascontiguousarray(flat)).resize(
            size, _RESAMPLING[self._image.interpolation], box
        )
        drawn = np.asarray(resized)
        return drawn[..., None] if drawn.ndim == 2 else drawn

    def _background(self) -> tuple[int, ...]:
        red, green, blue = self._image.background
        if self._image.colour == "GRAY":
            return (round(sum(w * v for w, v in zip(_LUMA, (red, green, blue), strict=True))),)
        return (blue, green, red) if self._image.colour == "BGR" else (red, green, blue)


def check_type(data: bytes, declared: str, place: str) -> None:
    """Raises Unconvertible (400, 415) unless the bytes are the picture that they are said to be."""
    if not data:
        raise malformed("empty-body", place, "is empty")
    found = sniff(data)
    if found is None:
        raise unsupported("not-a-picture", place, "is no JPEG, PNG or WebP picture")
    if declared in IMAGES and found != declared:
        raise unsupported("lying-content-type", place, f"is said to be {declared}, and is {found}")


def _size(data: bytes, place: str) -> tuple[int, int]:
    kind = sniff(data)
    if kind is None:
        raise unsupported("not-a-picture", place, "is no JPEG, PNG or WebP picture")
    if kind == "image/png":
        size = png_size(data)
    elif kind == "image/webp":
        size = webp_size(data)
    else:
        size = _jpeg_size(data)
    if size is None or 0 in size:
        raise malformed("broken-picture", place, "has a damaged header")
    return size


@dataclass(frozen=True, slots=True)
class _JpegHeader:
    width: int
    height: int
    colours: str


def _jpeg_header(data: bytes) -> _JpegHeader | None:
    """None where libjpeg-turbo cannot tell, of a damaged file or a rare subsampling."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return _JpegHeader(width, height, colours)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    header = _jpeg_header(data)
    if header is not None:
        return header.width, header.height
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.size
    # As in `_other`: there is no telling what a damaged file raises.
    except Exception:
        return None


def _check_passes(data: bytes, pixels: int, place: str, limits: Limits) -> None:
    # Only a long file can hold the scans that would cross the limit: most need no counting.
    if pixels * len(data) // _SHORTEST_SCAN <= limits.max_jpeg_passes:
        return
    if sniff(data) == "image/jpeg" and pixels * data.count(b"\xff\xda") > limits.max_jpeg_passes:
        raise too_large("too-many-scans", place, "has more JPEG scans than its size allows")


def _damaged(place: str, error: Exception) -> Unconvertible:
    # That message shows where in memory the picture is.
    cause = "the header is damaged" if isinstance(error, UnidentifiedImageError) else str(error)
    return malformed("broken-picture", place, f"cannot be decoded: {cause[:200]}")


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes an EXIF orientation: 2 to 4 mirror and turn, 5 to 8 transpose first."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
