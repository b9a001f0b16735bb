"""Converts images to the tensor of a declared image input."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from extproc.convert.errors import ConversionError
from extproc.convert.image_checks import check_memory, check_pixels, read_header
from extproc.convert.limits import ConversionLimits
from extproc.convert.tensor import Tensor
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason
from sluice.images.header import BrokenImageError, ImageHeader
from sluice.images.image_decoder import ImageDecoder
from sluice.images.normalize import DTYPES, keeps_pixels, normalizer

_MAX_SHORT_PIXELS = 1 << 17
"""Pixels of a JPEG, once for each scan, up to which decoding is short."""

_MAX_SHORT_TENSOR = 1 << 20
"""Size in bytes of a tensor up to which writing its values is short."""


@dataclass(slots=True)
class PreparedImages:
    """A batch of images whose structure has been checked."""

    memory: int
    """Bytes that `tensor` needs at most, with its result and without the images."""
    short: bool
    """Whether decoding takes less time than handing it to a thread and back, or hardly more."""
    tensor: Callable[[], Tensor]
    """Decodes the images. Raises ConversionError (400)."""


class ImageReader:
    """Reads images for one declared image input. Safe to share between threads."""

    def __init__(self, declared: TensorInput, limits: ConversionLimits) -> None:
        assert declared.image is not None
        self._declared = declared
        self._image = declared.image
        self._limits = limits
        self._dtype = DTYPES[declared.datatype]
        self._decoder = ImageDecoder(declared.image)
        self._normalize = normalizer(declared.image, declared.datatype)
        self._pixels_are_values = keeps_pixels(declared.image, declared.datatype)
        self._result = 2 * math.prod(declared.image.shape)
        """Bytes of the pixels of a tensor: those that are resized, and those with a background."""
        self._image_bytes = math.prod(declared.image.shape) * self._dtype.itemsize

    def prepare(self, images: Sequence[bytes], fields: Sequence[str]) -> PreparedImages:
        """Check a batch of images. `fields` are the names of the images in errors.

        Raises ConversionError: 400 for an image with an invalid structure, 413 for too many pixels,
        scans, segments or bytes, 415 for data other than JPEG, PNG and WebP, 422 for a batch that
        does not fit the declared shape.
        """
        shape = self._shape(len(images), fields)
        max_bytes = self._limits.max_tensor_bytes
        if len(images) * self._image_bytes > max_bytes:
            raise ConversionError(
                Reason.TENSORS_TOO_LARGE,
                fields[0],
                f"the tensor must have at most {max_bytes} bytes",
            )
        headers = [
            read_header(data, field, self._limits)
            for data, field in zip(images, fields, strict=True)
        ]
        check_pixels(headers, fields, self._image.max_pixels, self._limits)
        decoding = 0
        for data, header, field in zip(images, headers, fields, strict=True):
            memory = self._decoder.memory(header)
            check_memory(header, memory, field, self._limits)
            decoding = max(decoding, memory + len(data))
        memory = len(images) * self._image_bytes + self._result + decoding
        return PreparedImages(
            memory, self._is_short(headers), partial(self._decode, headers, fields, shape)
        )

    def _is_short(self, headers: Sequence[ImageHeader]) -> bool:
        """Whether it is one small JPEG that is neither resized nor scanned often."""
        header = headers[0]
        return (
            len(headers) == 1
            and header.scalable
            and header.scan_pixels <= _MAX_SHORT_PIXELS
            and self._decoder.keeps_size(header)
            and self._image_bytes <= _MAX_SHORT_TENSOR
        )

    def _decode(
        self, headers: Sequence[ImageHeader], fields: Sequence[str], shape: tuple[int, ...]
    ) -> Tensor:
        batch = np.empty((len(headers), *self._image.shape), self._dtype)
        for out, header, field in zip(batch, headers, fields, strict=True):
            buffer = out if self._pixels_are_values else None
            try:
                pixels = self._decoder.decode(header, buffer)
            except BrokenImageError as error:
                raise ConversionError(Reason.BROKEN_IMAGE, field, str(error)) from None
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
