"""Assembles H.264 and H.265 pictures from RTP packets (RFC 6184, RFC 7798). Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from video.sources.limits import MAX_FRAME_BYTES
from video.sources.rtsp.rtp import RtpPacket

_START_CODE: Final = b"\0\0\0\1"


@dataclass(frozen=True, slots=True)
class Unit:
    """An encoded picture. `data` is None if it is not usable."""

    timestamp: int
    data: bytes | None


class NalUnits:
    """Takes packets in order, and gives pictures (access units) in annex B form.

    A picture ends with the marker bit, or where the timestamp changes.
    """

    def __init__(self, codec: str) -> None:
        self._add_payload = self._h264 if codec == "h264" else self._h265
        self._parts: list[bytes] = []
        self._size = 0
        self._timestamp = 0
        self._in_fragment = False

    def add(self, packet: RtpPacket) -> Iterator[Unit]:
        """Add a packet."""
        if self._parts and packet.timestamp != self._timestamp:
            yield self._finish()
        self._timestamp = packet.timestamp
        if packet.after_loss:
            self._in_fragment = False
        self._add_payload(packet.payload)
        if packet.marker and self._parts:
            yield self._finish()

    def _finish(self) -> Unit:
        too_large = self._size > MAX_FRAME_BYTES
        data = None if too_large else b"".join(self._parts)
        self._parts, self._size, self._in_fragment = [], 0, False
        return Unit(self._timestamp, data)

    def _append(self, *parts: bytes) -> None:
        self._size += sum(map(len, parts))
        if self._size <= MAX_FRAME_BYTES:
            self._parts += parts

    def _h264(self, payload: bytes) -> None:
        kind = payload[0] & 0x1F
        if 1 <= kind <= 23:
            self._append(_START_CODE, payload)
        elif kind == 24:  # STAP-A (5.7.1)
            self._aggregate(payload, 1)
        elif kind == 28 and len(payload) > 2:  # FU-A (5.8)
            header = bytes((payload[0] & 0xE0 | payload[1] & 0x1F,))
            self._fragment(payload[1], header, payload[2:])

    def _h265(self, payload: bytes) -> None:
        kind = (payload[0] >> 1) & 0x3F
        if kind < 48:
            self._append(_START_CODE, payload)
        elif kind == 48:  # aggregation packet (4.4.2)
            self._aggregate(payload, 2)
        elif kind == 49 and len(payload) > 3:  # fragmentation unit (4.4.3)
            header = bytes((payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]))
            self._fragment(payload[2], header, payload[3:])

    def _aggregate(self, payload: bytes, at: int) -> None:
        while at + 2 < len(payload):
            length = int.from_bytes(payload[at : at + 2])
            nal = payload[at + 2 : at + 2 + length]
            if nal:
                self._append(_START_CODE, nal)
            at += 2 + length

    def _fragment(self, flags: int, header: bytes, part: bytes) -> None:
        if flags & 0x80:
            self._in_fragment = True
            self._append(_START_CODE, header, part)
        elif self._in_fragment:
            self._append(part)
        if flags & 0x40:
            self._in_fragment = False
