"""Rebuilds JPEG images from RTP packets (RFC 2435). Pure."""

from collections.abc import Iterator
from typing import Final

from video.sources.limits import MAX_FRAME_BYTES
from video.sources.rtsp.nal_units import Unit
from video.sources.rtsp.rtp import RtpPacket

_LUMINANCE: Final = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933383740485c4e404457453738"
    "506d51575f626768673e4d71797064785c656763"
)
_CHROMINANCE: Final = bytes.fromhex(
    "1112121815182f1a1a2f63423842636363636363636363636363636363636363636363636363636363636363"
    "6363636363636363636363636363636363636363"
)
"""The quantization tables of ITU-T T.81, annex K.1, in zigzag order."""

_HUFFMAN: Final = bytes.fromhex(
    "ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b510000201030302"
    "0403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433"
    "627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a6364656667"
    "68696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8"
    "b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f"
    "0100030101010101010101010000000000000102030405060708090a0bffc400b51100020102040403040705"
    "040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a16"
    "2434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a"
    "737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9ba"
    "c2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)
"""The segments with the Huffman tables of ITU-T T.81, annex K.3."""

_END: Final = b"\xff\xd9"
_TABLE: Final = 64


class JpegImages:
    """Takes packets in order, and gives images. An image with a missing packet has no data."""

    def __init__(self) -> None:
        self._head = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._timestamp: int | None = None
        self._complete = False
        self._tables: dict[int, bytes] = {}

    def add(self, packet: RtpPacket) -> Iterator[Unit]:
        """Add a packet."""
        if self._timestamp is not None and packet.timestamp != self._timestamp:
            yield self._finish(complete=False)
        if self._timestamp is None:
            self._timestamp, self._complete = packet.timestamp, True
        if not self._add(packet.payload):
            self._complete = False
        if packet.marker:
            yield self._finish(complete=self._complete)

    def _finish(self, *, complete: bool) -> Unit:
        timestamp = self._timestamp or 0
        data = b"".join((self._head, *self._parts)) if complete else None
        if data is not None and not data.endswith(_END):
            data += _END
        self._head, self._parts, self._size, self._timestamp = b"", [], 0, None
        return Unit(timestamp, data)

    def _add(self, payload: bytes) -> bool:
        """Add a payload (3.1). False if it does not follow the one before it, or is not valid."""
        if len(payload) < 8:
            return False
        offset = int.from_bytes(payload[1:4])
        kind, quality, width, height = payload[4:8]
        at, interval = 8, b""
        if kind & 64:  # restart marker header (3.1.7)
            at, interval = 12, payload[8:10]
        if offset == 0:
            tables, size = self._quantization(quality, payload[at:])
            if tables is None or kind & 0x3F > 1 or not (width and height):
                return False
            at += size
            self._head = _head(kind & 0x3F, 8 * width, 8 * height, tables, interval)
        if offset != self._size or not self._head or offset + len(payload) > MAX_FRAME_BYTES:
            return False
        self._parts.append(payload[at:])
        self._size += len(payload) - at
        return True

    def _quantization(self, quality: int, data: bytes) -> tuple[bytes | None, int]:
        """Both tables of an image, and the bytes of their header (3.1.8)."""
        if quality < 128:
            return (_scaled(quality), 0) if 1 <= quality <= 99 else (None, 0)
        length = int.from_bytes(data[2:4])
        if length == 0:
            return self._tables.get(quality), 4
        tables = data[4 : 4 + length]
        if len(data) < 4 or data[1] or len(tables) not in (_TABLE, 2 * _TABLE):
            return None, 0
        if len(tables) == _TABLE:
            tables += tables
        if quality != 255:  # The tables of 255 can differ in each image.
            self._tables[quality] = tables
        return tables, 4 + length


def _scaled(quality: int) -> bytes:
    """Both tables for a quality of 1 to 99 (4.2)."""
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    return bytes(
        min(max((value * factor + 50) // 100, 1), 255) for value in _LUMINANCE + _CHROMINANCE
    )


def _segment(kind: int, content: bytes) -> bytes:
    return bytes((0xFF, kind)) + (2 + len(content)).to_bytes(2) + content


def _head(kind: int, width: int, height: int, tables: bytes, interval: bytes) -> bytes:
    """Everything before the coded data (appendix B). Type 0 is 4:2:2, and 1 is 4:2:0."""
    sampling = 0x21 if kind == 0 else 0x22
    frame = bytes((8, *height.to_bytes(2), *width.to_bytes(2), 3))
    frame += bytes((1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xDB, b"\0" + tables[:_TABLE]),
            _segment(0xDB, b"\1" + tables[_TABLE:]),
            _segment(0xDD, interval) if interval else b"",
            _segment(0xC0, frame),
            _HUFFMAN,
            _segment(0xDA, bytes((3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0))),
        )
    )
