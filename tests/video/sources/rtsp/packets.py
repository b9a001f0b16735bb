"""Sends pictures as RTP packets: the opposite of what the source does."""

import struct
from collections.abc import Iterator

MAX_PAYLOAD = 300


def rtp(
    sequence: int,
    timestamp: int,
    payload: bytes,
    *,
    marker: bool = False,
    payload_type: int = 96,
    source: int = 7,
) -> bytes:
    """A packet."""
    second = payload_type | (0x80 if marker else 0)
    return struct.pack(">BBHII", 0x80, second, sequence & 0xFFFF, timestamp, source) + payload


def nals(stream: bytes) -> list[bytes]:
    """The NAL units of an annex B stream."""
    parts = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


def pictures(stream: bytes, codec: str) -> list[list[bytes]]:
    """The NAL units of each picture. Each picture has one slice."""
    found: list[list[bytes]] = [[]]
    for nal in nals(stream):
        found[-1].append(nal)
        kind = nal[0] & 0x1F if codec == "h264" else (nal[0] >> 1) & 0x3F
        if (1 <= kind <= 5) if codec == "h264" else kind < 32:
            found.append([])
    return found[:-1]


def payloads(picture: list[bytes], codec: str) -> Iterator[bytes]:
    """The payloads of a picture: small NAL units are aggregated, and large ones fragmented."""
    small = [nal for nal in picture if len(nal) <= MAX_PAYLOAD // 4]
    if len(small) > 1 and picture[: len(small)] == small:
        head = b"\x78" if codec == "h264" else b"\x60\1"
        yield head + b"".join(len(nal).to_bytes(2) + nal for nal in small)
        picture = picture[len(small) :]
    for nal in picture:
        if len(nal) <= MAX_PAYLOAD:
            yield nal
        else:
            yield from _fragments(nal, codec)


def _fragments(nal: bytes, codec: str) -> Iterator[bytes]:
    if codec == "h264":
        head, kind, body = bytes((nal[0] & 0xE0 | 28,)), nal[0] & 0x1F, nal[1:]
    else:
        head = bytes((nal[0] & 0x81 | 49 << 1, nal[1]))
        kind, body = (nal[0] >> 1) & 0x3F, nal[2:]
    for start in range(0, len(body), MAX_PAYLOAD):
        flags = (0x80 if start == 0 else 0) | (0x40 if start + MAX_PAYLOAD >= len(body) else 0)
        yield head + bytes((flags | kind,)) + body[start : start + MAX_PAYLOAD]


def packets(stream: bytes, codec: str, *, first: int = 0, step: int = 3000) -> list[bytes]:
    """All packets of a stream whose pictures are in order."""
    found, sequence = [], first
    for index, picture in enumerate(pictures(stream, codec)):
        parts = list(payloads(picture, codec))
        for number, part in enumerate(parts):
            marker = number == len(parts) - 1
            timestamp = (0xFFFFFFFF - 9000 + index * step) & 0xFFFFFFFF
            found.append(rtp(sequence, timestamp, part, marker=marker))
            sequence += 1
    return found
