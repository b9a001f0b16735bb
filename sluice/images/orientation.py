"""Reads the orientation from metadata of an image: EXIF (JEITA CP-3451) or XMP (ISO 16684-1)."""

import re
import struct

_TAG = 0x0112
_ENTRY_SIZE = 12
_TYPES = {1: "B", 3: "H", 4: "I"}
"""Formats of a value by type: BYTE, SHORT and LONG. The standard says SHORT, not all writers do."""

_XMP_NAME = b"tiff:Orientation"
_XMP_VALUE = re.compile(rb"""\s*(?:=\s*["']|>)\s*([1-8])\s*["'<]""")
"""The value of an attribute or of an element."""

_XMP_VALUE_SIZE = 64
"""Bytes after the name that may contain the value."""


class Orientation:
    """Collects the orientation from all metadata of one image. Metadata that are broken have none.

    EXIF has precedence over XMP, and the first metadata of a kind over the others.
    """

    __slots__ = ("_exif", "_xmp")

    def __init__(self) -> None:
        self._exif: int | None = None
        self._xmp: int | None = None

    @property
    def value(self) -> int:
        """The orientation, 1 to 8; 1 (upright) if no metadata have a valid one."""
        return self._exif or self._xmp or 1

    def add_exif(self, exif: bytes) -> None:
        """Read a TIFF structure, with or without the prefix of a JPEG's APP1 segment."""
        if self._exif is None:
            self._exif = _exif_orientation(exif.removeprefix(b"Exif\0\0"))

    def add_xmp(self, data: bytes, start: int, end: int) -> None:
        """Read an XMP packet in a file."""
        if self._xmp is None:
            self._xmp = _xmp_orientation(data, start, end)


def _exif_orientation(tiff: bytes) -> int | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return None
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    first = directory + 2
    end = min(first + _ENTRY_SIZE * count, len(tiff) - _ENTRY_SIZE + 1)
    for entry in range(first, end, _ENTRY_SIZE):
        tag, kind = struct.unpack_from(order + "HH", tiff, entry)
        if tag == _TAG:
            if kind not in _TYPES:
                return None
            (value,) = struct.unpack_from(order + _TYPES[kind], tiff, entry + 8)
            return value if 1 <= value <= 8 else None
    return None


def _xmp_orientation(data: bytes, start: int, end: int) -> int | None:
    name = data.find(_XMP_NAME, start, end)
    if name < 0:
        return None
    after = name + len(_XMP_NAME)
    match = _XMP_VALUE.match(data[after : min(after + _XMP_VALUE_SIZE, end)])
    return None if match is None else int(match[1])
