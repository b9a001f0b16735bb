"""What the NAL units of an encoded picture say about the pictures that it depends on.

Clauses are those of ITU-T H.264 and H.265.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from sluice.contract.video import VideoReason
from video.source import SourceError
from video.sources.parameter_sets import SequenceParameters, read_h264, read_h265

MAX_REORDER: Final = 16
"""Maximum of max_num_reorder_frames: the size of the decoded picture buffer (A.3.1)."""

_MAX_NALS = 64
"""NAL units before the first slice of a picture that are read."""

_NAL_START = 4096
"""Bytes of a NAL unit that are read. Parameter sets are shorter."""

_START_CODE = b"\0\0\1"


class Start(Enum):
    """Whether decoding can start at a picture."""

    NO = auto()
    CLOSED = auto()
    """No picture after it in decoding order depends on a picture before it."""
    OPEN = auto()
    """Only pictures that precede it in output order (leading pictures) do so."""


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """The dependencies of a picture.

    No other picture depends on one that is `disposable`. A picture with `needs_earlier` cannot be
    decoded if decoding starts at the picture with `Start.OPEN` before it. From one that `recovers`,
    a decoder arrives at correct pictures, perhaps later.
    """

    start: Start = Start.NO
    disposable: bool = False
    needs_earlier: bool = False
    recovers: bool = False


_REFERENCE: Final = PictureHeader()
_DISPOSABLE: Final = PictureHeader(disposable=True)
_CLOSED: Final = PictureHeader(Start.CLOSED)
_OPEN: Final = PictureHeader(Start.OPEN)


class PictureReader:
    """Reads the NAL unit headers of each picture, and checks the size of its parameter sets."""

    def __init__(self, codec: str, configuration: bytes | None, max_pixels: int) -> None:
        """`codec` is h264 or hevc. `configuration` is the decoder configuration of the container.

        Raises SourceError.
        """
        self._is_h264 = codec == "h264"
        self._max_pixels = max_pixels
        self.parameters: SequenceParameters | None = None
        sets, self._length_size = _read_configuration(self._is_h264, configuration or b"")
        for nal in sets:
            (self._h264 if self._is_h264 else self._h265)(nal)

    def read(self, picture: bytes) -> PictureHeader:
        """The header of a picture (an access unit). Raises SourceError for too many pixels."""
        nals = _annex_b(picture) if not self._length_size else self._with_lengths(picture)
        slice_header = self._h264 if self._is_h264 else self._h265
        recovers = False
        for count, nal in enumerate(nals):
            header = slice_header(nal)
            if header is not None:
                return replace(header, recovers=True) if recovers else header
            recovers = recovers or (self._is_h264 and _has_recovery_point(nal))
            if count == _MAX_NALS:
                break
        return _REFERENCE

    def _h264(self, nal: bytes) -> PictureHeader | None:
        """The header of a picture, if this is a slice (7.4.1)."""
        kind = nal[0] & 0x1F
        if kind == 5:
            return _CLOSED
        if 1 <= kind <= 4:
            return _REFERENCE if nal[0] & 0x60 else _DISPOSABLE
        if kind == 7:
            self._read_set(nal)
        return None

    def _h265(self, nal: bytes) -> PictureHeader | None:
        """The header of a picture, if this is a slice (7.4.2.2)."""
        kind = (nal[0] >> 1) & 0x3F
        if kind >= 32:
            if kind == 33:
                self._read_set(nal)
            return None
        if 16 <= kind <= 20:
            return _CLOSED
        if kind == 21:
            return _OPEN
        # Pictures of a higher sub-layer can refer to a sub-layer non-reference picture.
        layer = (nal[1] & 7) - 1 if len(nal) > 1 else 0
        top = self.parameters is not None and layer == self.parameters.top_layer
        disposable = kind < 16 and not kind & 1 and top
        if kind in (8, 9):
            return PictureHeader(disposable=disposable, needs_earlier=True)
        return _DISPOSABLE if disposable else _REFERENCE

    def _read_set(self, nal: bytes) -> None:
        """Read a sequence parameter set. The decoder answers for one that is broken."""
        try:
            parameters = read_h264(nal) if self._is_h264 else read_h265(nal)
        except ValueError:
            return
        if parameters.width * parameters.height > self._max_pixels:
            raise too_many_pixels(parameters.width, parameters.height, self._max_pixels)
        self.parameters = parameters

    def _with_lengths(self, picture: bytes) -> Iterator[bytes]:
        """The start of each NAL unit, which follows its length (ISO/IEC 14496-15)."""
        position, size = 0, self._length_size
        while position + size < len(picture):
            length = int.from_bytes(picture[position : position + size])
            position += size
            if length:
                yield picture[position : position + min(length, _NAL_START)]
            position += length


def _has_recovery_point(nal: bytes) -> bool:
    """Whether an SEI of H.264 has a recovery point message (7.3.2.3.1, D.1.8)."""
    if nal[0] & 0x1F != 6:
        return False
    at = 1
    while at + 2 < len(nal):
        values = []
        for _ in range(2):
            value = 0
            while at < len(nal) and nal[at] == 0xFF:
                value, at = value + 255, at + 1
            values.append(value + (nal[at] if at < len(nal) else 0))
            at += 1
        kind, size = values
        if kind == 6:
            return True
        at += size
        if nal[at : at + 1] == b"\x80":  # the end of the NAL unit
            return False
    return False


def too_many_pixels(width: int, height: int, maximum: int) -> SourceError:
    """The error for frames that are too large."""
    message = f"frames of {width}x{height} pixels are larger than {maximum} pixels"
    return SourceError(VideoReason.TOO_MANY_PIXELS, message)


def _annex_b(data: bytes) -> Iterator[bytes]:
    """The start of each NAL unit, which follows a start code (H.264 and H.265, annex B)."""
    position = data.find(_START_CODE)
    while 0 <= position < len(data) - 3:
        yield data[position + 3 : position + 3 + _NAL_START]
        position = data.find(_START_CODE, position + 3)


def _read_configuration(is_h264: bool, data: bytes) -> tuple[list[bytes], int]:
    """The parameter sets of a configuration, and the size of the lengths of NAL units (0: none).

    Its form is annex B, or the one of ISO/IEC 14496-15, 5.3.3.1 (avcC) and 8.3.3.1 (hvcC).
    """
    if not data or data.startswith((_START_CODE, b"\0" + _START_CODE)):
        return list(_annex_b(data))[:_MAX_NALS], 0
    at, arrays = (4, 1) if is_h264 else (21, data[22] if len(data) > 22 else 0)
    if len(data) <= at + 1:
        raise SourceError(VideoReason.BROKEN_VIDEO, "the decoder configuration is incomplete")
    sets: list[bytes] = []
    position = at + 1 if is_h264 else at + 2
    for _ in range(arrays):
        if is_h264:
            count = data[position] & 0x1F
            position += 1
        else:
            count = int.from_bytes(data[position + 1 : position + 3])
            position += 3
        for _ in range(min(count, _MAX_NALS)):
            length = int.from_bytes(data[position : position + 2])
            if length:
                sets.append(data[position + 2 : position + 2 + min(length, _NAL_START)])
            position += 2 + length
    return [nal for nal in sets if nal], (data[at] & 3) + 1
