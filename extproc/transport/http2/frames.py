"""The wire form of frames (RFC 9113 sections 4.1 and 6): layouts, types, flags, and how to write
one.

What a frame means in a given state belongs to `connection`.
"""

from struct import Struct
from typing import Final

from extproc.transport.http2.errors import ConnectionFaultError, ErrorCode

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""Section 3.4: what a client sends first."""

# Types (section 6), in the order of their numbers.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

# Settings (section 6.5.2).
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_FRAME_SIZE: Final = 16_384
"""The largest frame anyone may send unasked (section 4.2); we never ask for larger ones, because a
frame must be held whole and 16 KiB already makes the 9 bytes of its header vanish."""
LARGEST_FRAME_SIZE: Final = 2**24 - 1
MAX_STREAM_ID: Final = 2**31 - 1

HEADER: Final = Struct(">LBL")
"""Length (24 bits) and type (8 bits) as one word, flags, stream identifier with its reserved bit:
one unpack in place of the four that the fields would take one by one."""
HEADER_SIZE: Final = 9
LARGEST_WORD: Final = DEFAULT_FRAME_SIZE << 8 | 0xFF

SETTING: Final = Struct(">HL")
UINT32: Final = Struct(">L")
TWO_UINT32: Final = Struct(">LL")


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def headers(stream_id: int, block: bytes, *, end_stream: bool, largest: int) -> bytes:
    """HEADERS, and CONTINUATION where the block is larger than the peer's frames may be."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= largest:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[start : start + largest] for start in range(0, len(block), largest)]
    frames = [frame(HEADERS, flags, stream_id, parts[0])]
    frames += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream_id, parts[-1]))
    return b"".join(frames)


def settings(values: dict[int, int]) -> bytes:
    payload = b"".join(SETTING.pack(name, value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream_id, UINT32.pack(code))


def goaway(last_stream_id: int, code: ErrorCode, reason: str) -> bytes:
    return frame(GOAWAY, 0, 0, TWO_UINT32.pack(last_stream_id, code) + reason.encode())


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, UINT32.pack(increment))


def without_padding(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """The bounds of a PADDED frame's content (section 6.1)."""
    if start == stop:
        raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "no pad length")
    start, stop = start + 1, stop - data[start]
    if stop < start:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "padding exceeds the frame")
    return start, stop
