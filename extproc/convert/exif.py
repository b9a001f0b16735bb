"""Reads the EXIF orientation of a JPEG without decoding the image (JEITA CP-3451, tag 0x0112)."""

import struct

ORIENTATION = 0x0112

_SHORT = 3
_MARKERS_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1


def jpeg_orientation(data: bytes) -> int:
    """The orientation, 1 to 8; 1 (upright) if it is missing or not valid."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _MARKERS_WITHOUT_LENGTH:
            position += 2
            continue
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            break
        start = position + 4
        if marker == _APP1 and data[start : start + 6] == b"Exif\0\0":
            return _tiff_orientation(data[start + 6 : position + 2 + length])
        position += 2 + length
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return 1
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == ORIENTATION:
            return value if kind == _SHORT and 1 <= value <= 8 else 1
    return 1
