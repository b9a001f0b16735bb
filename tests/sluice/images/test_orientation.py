"""The orientation of an image is read from its metadata."""

import struct

import pytest

from sluice.images.orientation import Orientation
from tests.sluice.images.pictures import XMP, exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4], ids=["BYTE", "SHORT", "LONG"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_exif_orientation_is_read_in_both_byte_orders(
    orientation: int, order: str, kind: int, prefix: bytes
) -> None:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], orientation)
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    data = prefix + magic + struct.pack(order + "IH", 8, 1) + entry
    assert _orientation(exif=data) == orientation
    for end in range(len(data)):
        assert 1 <= _orientation(exif=data[:end]) <= 8


@pytest.mark.parametrize(
    ("packet", "orientation"),
    [
        (XMP % b'tiff:Orientation="6"/>', 6),
        (XMP % b"tiff:Orientation = '8'/>", 8),
        (XMP % b"><tiff:Orientation> 3 </tiff:Orientation>", 3),
        (XMP % b'tiff:Orientation="9"/>', 1),
        (XMP % b'tiff:Orientation="', 1),
        (XMP % b'tiff:Make="a"/>', 1),
        (b"tiff:Orientation", 1),
        (b"", 1),
    ],
)
def test_the_orientation_is_read_from_xmp(packet: bytes, orientation: int) -> None:
    assert _orientation(xmp=packet) == orientation


def test_exif_has_precedence_over_xmp_if_it_has_an_orientation() -> None:
    packet = XMP % b'tiff:Orientation="6"/>'
    assert _orientation(exif=exif(3).tobytes(), xmp=packet) == 3
    assert _orientation(exif=exif(0).tobytes(), xmp=packet) == 6
    assert _orientation(exif=b"II*\0\xff\xff\xff\xff", xmp=packet) == 6


def _orientation(*, exif: bytes = b"", xmp: bytes = b"") -> int:
    found = Orientation()
    found.add_xmp(xmp, 0, len(xmp))
    found.add_exif(exif)
    return found.value
