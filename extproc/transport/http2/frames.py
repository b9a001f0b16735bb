"""The wire format of frames (RFC 9113 sections 4.1 and 6): types, flags, settings, and functions
that encode one frame.

`connection` decides what a received frame means in the current state.
"""

from struct import Struct
from typing import Final

from extproc.transport.http2.errors import ErrorCode, Http2ConnectionError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The client connection preface (section 3.4)."""

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
"""The PRIORITY flag of HEADERS; the name PRIORITY belongs to the frame type."""

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
"""The initial SETTINGS_MAX_FRAME_SIZE (section 4.2). We do not offer a larger size, because a frame
is buffered as a whole. We send larger frames to peers that accept them."""
LARGEST_FRAME_SIZE: Final = 2**24 - 1
MAX_STREAM_ID: Final = 2**31 - 1

KEEPALIVE_PING: Final = b"liveness"
"""Payload of a PING that checks whether the peer is still there."""
DRAIN_PING: Final = b"draining"
"""Payload of a PING that follows the first GOAWAY of a graceful shutdown."""

HEADER: Final = Struct(">LBL")
"""Length (24 bits) and type (8 bits) as one word, then flags, then the stream identifier with its
reserved bit. One word, so that `struct` can unpack the 24 bits."""
HEADER_SIZE: Final = 9
LARGEST_WORD: Final = DEFAULT_FRAME_SIZE << 8 | 0xFF

SETTING: Final = Struct(">HL")
UINT32: Final = Struct(">L")
TWO_UINT32: Final = Struct(">LL")


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def headers(stream_id: int, block: bytes, *, end_stream: bool) -> bytes:
    """HEADERS, followed by CONTINUATION when the block does not fit in one frame."""
    flags = END_STREAM if end_stream else 0
    largest = DEFAULT_FRAME_SIZE
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
    """The bounds of the content of a PADDED frame (section 6.1)."""
    if start == stop:
        raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PADDED frame without pad length")
    start, stop = start + 1, stop - data[start]
    if stop < start:
        raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "padding exceeds the frame")
    return start, stop
