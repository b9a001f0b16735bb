"""Crops decoded frames, scales them and converts their colors, with swscale.

swscale scales with the same filter as Pillow's `bilinear`, and does it together with the colors.
"""

from collections.abc import Mapping
from functools import lru_cache

import av
import numpy as np
import numpy.typing as npt
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from sluice.images.geometry import Part, Pixels
from video.conversion.converted import broken_frame

Plane = npt.NDArray[np.uint8]
"""[height, width]"""

_MATRICES: Mapping[int, Colorspace] = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""The matrices by MatrixCoefficients (ITU-T H.273 section 8.3)."""

_SD_WIDTH, _SD_HEIGHT = 1279, 576
"""Largest frame for which players assume BT.601 if it does not say its matrix."""

_FULL_RANGE = 2

_FILTERS: Mapping[str, Interpolation] = {
    "bilinear": Interpolation.BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "lanczos": Interpolation.LANCZOS,
    # Like libjpeg, which decodes an image at a fraction of its size.
    "area": Interpolation.AREA,
}

SCALINGS = frozenset(_FILTERS)

_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""Each pixel gets a color of its own. Without the second flag, swscale 9 converts an image that it
does not scale faster, but leaves out some pixels at the end of rows."""

_FAST_COLUMNS = 16
"""Columns that swscale converts at once. It leaves out none if the width is a multiple."""

_MIN_BITS, _MAX_BITS = 8, 16

_ORIENTATIONS: Mapping[int, int] = {90: 8, 180: 3, -180: 3, -90: 6, 270: 6, -270: 8}
"""EXIF orientations by the degrees by which a player turns the frame counterclockwise."""


def orientation_of(frame: av.VideoFrame) -> int:
    """The EXIF orientation of a frame, from its display matrix."""
    return _ORIENTATIONS.get(frame.rotation, 1)


class FrameScaler:
    """Converts frames of one stream. For one thread at a time.

    Parts have even edges, and sizes are (width, height). `scaling` is one of `SCALINGS`.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def planes(
        self, frame: av.VideoFrame, part: Part, size: tuple[int, int], scaling: str
    ) -> tuple[Plane, ...]:
        """Red, green and blue of a part of a frame, scaled to a size. Raises FrameError."""
        left, top, right, bottom = part
        fast = size == (right - left, bottom - top) and size[0] % _FAST_COLUMNS == 0
        flags = _FILTERS[scaling] if fast else _FILTERS[scaling] | _EXACT
        green, blue, red = map(_pixels, self._scaled(frame, part, size, "gbrp", flags).planes)
        return red, green, blue

    def gray(self, frame: av.VideoFrame, part: Part, size: tuple[int, int], scaling: str) -> Plane:
        """The brightness of a part of a frame, scaled to a size. Raises FrameError."""
        matrix, _ = _colors(frame)
        # The brightness of other matrices depends on the colors.
        fast = matrix == Colorspace.ITU601
        flags = _FILTERS[scaling] if fast else _FILTERS[scaling] | _EXACT
        return _pixels(self._scaled(frame, part, size, "gray8", flags).planes[0])

    def subsampled(self, frame: av.VideoFrame, part: Part, size: tuple[int, int]) -> Pixels:
        """RGB pixels of a part of a frame, scaled to a size. Raises FrameError.

        Two pixels share their color, as in most JPEGs and videos. This takes less time than
        `planes` and interleaving them.
        """
        scaled = self._scaled(frame, part, size, "rgb24", Interpolation.BILINEAR)
        rows = _rows(scaled.planes[0])
        return rows[:, : 3 * scaled.width].reshape(scaled.height, scaled.width, 3)

    def _scaled(
        self,
        frame: av.VideoFrame,
        part: Part,
        size: tuple[int, int],
        kind: str,
        flags: Interpolation,
    ) -> av.VideoFrame:
        if not _is_supported(frame.format.name):
            raise broken_frame(f"the pixel format {frame.format.name} is not supported")
        matrix, color_range = _colors(frame)
        source = frame
        if part != (0, 0, frame.width, frame.height):
            source = _crop(frame, part)
        width, height = size
        try:
            return self._reformatter.reformat(
                source,
                width,
                height,
                kind,
                src_colorspace=matrix,
                dst_colorspace=Colorspace.ITU601,
                interpolation=flags,
                src_color_range=color_range,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
        except (av.FFmpegError, ValueError) as error:
            raise broken_frame(f"{frame.format.name} cannot be converted: {error}") from None


@lru_cache(maxsize=64)
def _is_supported(name: str) -> bool:
    """Whether each component has a plane of integers, as decoders of video deliver them.

    swscale ends the process for some other formats.
    """
    kind = av.VideoFormat(name, 16, 16)
    planes = {component.plane for component in kind.components}
    separate = len(planes) == len(kind.components) and not kind.has_palette
    return separate and all(_MIN_BITS <= each.bits <= _MAX_BITS for each in kind.components)


def _colors(frame: av.VideoFrame) -> tuple[Colorspace, ColorRange]:
    """Matrix and range of the colors, with the usual defaults."""
    large = frame.width > _SD_WIDTH or frame.height > _SD_HEIGHT
    default = Colorspace.ITU709 if large else Colorspace.ITU601
    full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return _MATRICES.get(frame.colorspace, default), ColorRange.JPEG if full else ColorRange.MPEG


def _crop(frame: av.VideoFrame, part: Part) -> av.VideoFrame:
    """A copy of a part of a frame."""
    left, top, right, bottom = part
    kind = frame.format
    copy = av.VideoFrame(right - left, bottom - top, kind.name)
    for component, plane, target in zip(kind.components, frame.planes, copy.planes, strict=True):
        size = (component.bits + 7) // 8
        across, down = -(-frame.width // plane.width), -(-frame.height // plane.height)
        x, y = left // across, top // down
        rows = _rows(plane)[y : y + target.height, x * size : (x + target.width) * size]
        _rows(target)[:, : target.width * size] = rows
    return copy


def _pixels(plane: VideoPlane) -> Plane:
    return _rows(plane)[:, : plane.width]


def _rows(plane: VideoPlane) -> Plane:
    """The rows of a plane in bytes, with the padding after each."""
    rows: Plane = np.frombuffer(memoryview(plane), np.uint8)
    return rows[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)
