"""Converts images to the tensor of a declared image input."""

import math
from collections.abc import Sequence

import numpy as np

from extproc.convert.errors import ConversionError
from extproc.convert.image_checks import check_memory, check_pixels, read_header
from extproc.convert.image_decode import ImageDecoder
from extproc.convert.limits import ConversionLimits
from extproc.convert.normalize import DTYPES, normalizer
from extproc.convert.tensor import Tensor
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason


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
        self._pixels_are_values = (
            declared.datatype == "UINT8"
            and declared.image.layout == "NHWC"
            and not declared.image.normalized
        )
        self._result = 2 * math.prod(declared.image.shape)
        """Bytes of the pixels of a tensor: those that are resized, and those with a background."""
        self._image_bytes = math.prod(declared.image.shape) * self._dtype.itemsize

    def tensor(self, images: Sequence[bytes], fields: Sequence[str]) -> Tensor:
        """Decode a batch of images to a tensor. `fields` are the names of the images in errors.

        Raises ConversionError: 400 for an image that cannot be decoded, 413 for too many pixels,
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
        for header, field in zip(headers, fields, strict=True):
            check_memory(header, self._decoder.memory(header), field, self._limits)
        batch = np.empty((len(images), *self._image.shape), self._dtype)
        for out, header, field in zip(batch, headers, fields, strict=True):
            buffer = out if self._pixels_are_values else None
            pixels = self._decoder.decode(header, field, buffer)
            if pixels is not buffer:
                self._normalize(pixels, out)
        return Tensor(
            self._declared.name,
            self._declared.datatype,
            shape,
            batch.reshape(-1).view(np.uint8).data,
            field=fields[0],
        )

    def memory_needed(self, images: Sequence[bytes]) -> int:
        """Bytes that `tensor` needs at most, with its result and without the images.

        An image that would be refused counts as 0.
        """
        tensor = min(len(images) * self._image_bytes, self._limits.max_tensor_bytes)
        return tensor + self._result + max(map(self._decoding_memory, images), default=0)

    @property
    def max_memory_needed(self) -> int:
        """The maximum of `memory_needed` for images that are accepted."""
        limits = self._limits
        return limits.max_tensor_bytes + self._result + limits.max_image_memory + limits.max_body

    def _decoding_memory(self, data: bytes) -> int:
        try:
            memory = self._decoder.memory(read_header(data, "", self._limits))
        except ConversionError:
            return 0
        return memory + len(data) if memory <= self._limits.max_image_memory else 0

    def _shape(self, count: int, fields: Sequence[str]) -> tuple[int, ...]:
        declared = self._declared.shape
        batch = 1 if len(declared) == 3 else declared[0]
        if batch not in (-1, count):
            raise ConversionError(
                Reason.WRONG_COUNT, fields[0], f"the model accepts {batch} images, not {count}"
            )
        return self._image.shape if len(declared) == 3 else (count, *self._image.shape)
