"""Packets of RTP, their order, and receiver reports (RFC 3550, sections 5 and 6). Pure."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_HELD: Final = 64
MAX_HOLD_SECONDS: Final = 0.05
"""Packets that wait for one that is late, and for how long they do."""

_MAX_STEP: Final = 3000
"""A larger step of the sequence numbers is a new sequence (A.1: MAX_DROPOUT)."""

_HEADER: Final = struct.Struct(">BBHII")
_BYE: Final = 203


@dataclass(slots=True)
class RtpPacket:
    """A packet. `after_loss` says whether the packet before it is missing."""

    sequence: int
    timestamp: int
    marker: bool
    payload_type: int
    source: int
    payload: bytes
    after_loss: bool = False


def read_rtp(data: bytes) -> RtpPacket | None:
    """Read a packet (5.1). None if it is not valid."""
    if len(data) < _HEADER.size:
        return None
    first, second, sequence, timestamp, source = _HEADER.unpack_from(data)
    start, end = _HEADER.size + 4 * (first & 0x0F), len(data)
    if first >> 6 != 2:
        return None
    if first & 0x10:  # header extension
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    if first & 0x20:  # padding
        end -= data[-1]
    if start >= end:
        return None
    marker, payload_type = bool(second & 0x80), second & 0x7F
    return RtpPacket(sequence, timestamp, marker, payload_type, source, data[start:end])


def is_bye(data: bytes) -> bool:
    """Whether a compound RTCP packet says that the source ends (6.6)."""
    at = 0
    while at + 4 <= len(data):
        if data[at + 1] == _BYE:
            return True
        at += 4 + 4 * int.from_bytes(data[at + 2 : at + 4])
    return False


class PacketOrder:
    """Puts packets in the order of their sequence numbers, and finds losses."""

    def __init__(self, *, reorders: bool) -> None:
        """`reorders` says whether packets can be out of order, as with UDP."""
        self._reorders = reorders
        self._held: dict[int, RtpPacket] = {}
        self._held_since = 0.0
        self.highest = -1
        """The last sequence number, extended by its cycles (A.1). -1 before the first packet."""
        self.lost = 0

    def add(self, packet: RtpPacket, now: float) -> Iterator[RtpPacket]:
        """Add a packet that arrived. `now` is in seconds."""
        if self.highest < 0:
            yield self._next(packet, packet.sequence)
            return
        step = (packet.sequence - self.highest + 0x8000 & 0xFFFF) - 0x8000
        if abs(step) > _MAX_STEP:
            self._held.clear()
            packet.after_loss = True
            yield self._next(packet, packet.sequence)
        elif step == 1 or (step > 0 and not self._reorders):
            yield self._next(packet, self.highest + step)
            yield from self._following()
        elif step > 0:
            if not self._held:
                self._held_since = now
            self._held[self.highest + step] = packet
            if len(self._held) > MAX_HELD or now - self._held_since > MAX_HOLD_SECONDS:
                yield from self._skip()

    def _skip(self) -> Iterator[RtpPacket]:
        """Give up the packets that are missing."""
        first = min(self._held)
        yield self._next(self._held.pop(first), first)
        yield from self._following()

    def _following(self) -> Iterator[RtpPacket]:
        while (packet := self._held.pop(self.highest + 1, None)) is not None:
            yield self._next(packet, self.highest + 1)

    def _next(self, packet: RtpPacket, sequence: int) -> RtpPacket:
        missing = sequence - self.highest - 1
        if self.highest >= 0 and missing > 0:
            packet.after_loss = True
            self.lost += missing
        self.highest = sequence
        return packet


class TimestampClock:
    """Extends the 32 bits of RTP timestamps to seconds that do not wrap around."""

    def __init__(self, clock_rate: int) -> None:
        self._rate = clock_rate
        self._last: int | None = None

    def seconds(self, timestamp: int) -> float:
        """The time of the next packet."""
        if self._last is None:
            self._last = timestamp
        else:
            self._last += (timestamp - self._last + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
        return self._last / self._rate


def receiver_report(own: int, source: int, order: PacketOrder) -> bytes:
    """A report on what was received (6.4.2), without jitter and sender times."""
    lost = min(order.lost, (1 << 23) - 1)
    block = struct.pack(">IIIIII", source, lost, order.highest & 0xFFFFFFFF, 0, 0, 0)
    return struct.pack(">BBHI", 0x81, 201, 7, own) + block


def empty_report(own: int) -> bytes:
    """A report without a source (6.4.2)."""
    return struct.pack(">BBHI", 0x80, 201, 1, own)
