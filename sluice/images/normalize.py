"""Converts pixels to the values of a tensor: value = (pixel x scale - mean) / std.

FP32 is computed as `pixel x factor + offset`, in two vectorized passes. For the other datatypes,
which processors compute slowly or not at all, each channel has a table of 256 values.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sluice.config.tensors import ImageInput
from sluice.images.geometry import Pixels
from sluice.tensors.elements import to_bf16

Values = npt.NDArray[np.generic]
Normalizer = Callable[[Pixels, Values], None]
"""Writes the pixels of one image to its part of the tensor, in the declared layout."""

DTYPES: dict[str, np.dtype[np.generic]] = {
    "UINT8": np.dtype("u1"),
    "INT8": np.dtype("i1"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
}

_LARGEST_FP16 = 65504.0
# The largest BF16 is smaller than the largest FP32; values below this bound round to finite BF16.
_LARGEST_BF16 = 3.38e38


def keeps_pixels(image: ImageInput, datatype: str) -> bool:
    """Whether the tensor of an image has the same bytes as its pixels."""
    return datatype == "UINT8" and image.layout == "NHWC" and not image.normalized


def normalizer(image: ImageInput, datatype: str) -> Normalizer:
    """The function that fills a tensor of this datatype and layout."""
    planar = image.layout == "NCHW"
    if datatype == "UINT8" and not image.normalized:
        return _copy_planar if planar else _copy
    if datatype == "FP32":
        return _computed(image, planar)
    return _looked_up(image, datatype, planar)


def _copy(pixels: Pixels, out: Values) -> None:
    out[...] = pixels


def _copy_planar(pixels: Pixels, out: Values) -> None:
    out[...] = pixels.transpose(2, 0, 1)


def _computed(image: ImageInput, planar: bool) -> Normalizer:
    means, deviations = _channels(image.mean, 0.0, image), _channels(image.std, 1.0, image)
    with np.errstate(over="ignore"):
        factors = (image.scale / deviations).astype(np.float32)
        offsets = (-means / deviations).astype(np.float32)

    def fill_planar(pixels: Pixels, out: Values) -> None:
        np.multiply(pixels.transpose(2, 0, 1), factors[:, None, None], out=out)
        np.add(out, offsets[:, None, None], out=out)

    # One row at a time: numpy does not vectorize an inner loop over three channels.
    row_factors, row_offsets = np.tile(factors, image.width), np.tile(offsets, image.width)

    def fill(pixels: Pixels, out: Values) -> None:
        rows = out.reshape(image.height, -1)
        np.multiply(pixels.reshape(image.height, -1), row_factors, out=rows)
        np.add(rows, row_offsets, out=rows)

    return fill_planar if planar else fill


def _looked_up(image: ImageInput, datatype: str, planar: bool) -> Normalizer:
    means, deviations = _channels(image.mean, 0.0, image), _channels(image.std, 1.0, image)
    levels = np.arange(256, dtype=np.float64)
    tables = [
        _as_datatype((levels * image.scale - mean) / deviation, datatype)
        for mean, deviation in zip(means, deviations, strict=True)
    ]

    def fill(pixels: Pixels, out: Values) -> None:
        planes = out if planar else out.transpose(2, 0, 1)
        for plane, table, channel in zip(planes, tables, pixels.transpose(2, 0, 1), strict=True):
            # A pixel of 8 bits is always inside the table. "wrap" omits numpy's bounds check.
            np.take(table, channel, out=plane, mode="wrap")

    return fill


def _channels(
    values: tuple[float, ...], default: float, image: ImageInput
) -> npt.NDArray[np.float64]:
    return np.broadcast_to(np.array(values or (default,), dtype=np.float64), image.channels)


def _as_datatype(values: npt.NDArray[np.float64], datatype: str) -> Values:
    if datatype in ("UINT8", "INT8"):
        low, high = (0, 255) if datatype == "UINT8" else (-128, 127)
        whole: Values = values.round().clip(low, high).astype(DTYPES[datatype])
        return whole
    if datatype == "BF16":
        return to_bf16(values.clip(-_LARGEST_BF16, _LARGEST_BF16).astype(np.float32))
    return values.clip(-_LARGEST_FP16, _LARGEST_FP16).astype(np.float16)
