"""Crops decoded frames, scales them and converts their colors, with swscale.

swscale scales with the same filter as Pillow's `bilinear`, and does it together with the colors.
"""

from collections.abc import Mapping

import av
import numpy as np
import numpy.typing as npt
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from sluice.images.geometry import Part
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

_FLAGS = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT
"""Colors for each pixel of the result. Without the flag, two pixels would share one."""

_ORIENTATIONS: Mapping[int, int] = {90: 8, 180: 3, -180: 3, -90: 6, 270: 6, -270: 8}
"""EXIF orientations by the degrees by which a player turns the frame counterclockwise."""


def orientation_of(frame: av.VideoFrame) -> int:
    """The EXIF orientation of a frame, from its display matrix."""
    return _ORIENTATIONS.get(frame.rotation, 1)


class FrameScaler:
    """Converts frames of one stream. For one thread at a time."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def scale(
        self, frame: av.VideoFrame, part: Part, size: tuple[int, int], kind: str
    ) -> list[Plane]:
        """The planes of a part of a frame, scaled to (width, height).

        `kind` is the pixel format: `gbrp`, `gray8`, or `yuvj420p` with the colors of JPEG. The part
        has even edges. Raises FrameError.
        """
        matrix, color_range = _colors(frame)
        source = frame
        if part != (0, 0, frame.width, frame.height):
            source = _crop(frame, part)
        width, height = size
        try:
            scaled = self._reformatter.reformat(
                source,
                width,
                height,
                kind,
                src_colorspace=matrix,
                dst_colorspace=Colorspace.ITU601,
                interpolation=_FLAGS,
                src_color_range=color_range,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
        except (av.FFmpegError, ValueError) as error:
            raise broken_frame(f"{frame.format.name} cannot be converted: {error}") from None
        return [_pixels(plane) for plane in scaled.planes]


def _colors(frame: av.VideoFrame) -> tuple[Colorspace, ColorRange]:
    """Matrix and range of the colors, with the usual defaults."""
    large = frame.width > _SD_WIDTH or frame.height > _SD_HEIGHT
    default = Colorspace.ITU709 if large else Colorspace.ITU601
    full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return _MATRICES.get(frame.colorspace, default), ColorRange.JPEG if full else ColorRange.MPEG


def _crop(frame: av.VideoFrame, part: Part) -> av.VideoFrame:
    """A copy of a part of a frame. Raises FrameError if the frame mixes components in a plane."""
    left, top, right, bottom = part
    kind = frame.format
    if len(kind.components) != len(frame.planes):
        raise broken_frame(f"{kind.name} cannot be cropped")
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
