"""Reads the orientation from EXIF data (JEITA CP-3451, tag 0x0112)."""

import struct

_ORIENTATION = 0x0112
_SHORT = 3
_ENTRY_SIZE = 12


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8; 1 (upright) if it is missing or not valid.

    `exif` is a TIFF structure, with or without the prefix of a JPEG's APP1 segment.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return 1
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    first = directory + 2
    end = min(first + _ENTRY_SIZE * count, len(tiff) - _ENTRY_SIZE + 1)
    for entry in range(first, end, _ENTRY_SIZE):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == _ORIENTATION:
            return value if kind == _SHORT and 1 <= value <= 8 else 1
    return 1
