"""A connection of HTTP/2 (RFC 9113), with many streams.

It sends headers as literals that are not in any table, so that all bytes are possible.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

from hpack import Decoder

from tests.integration.equality.request import Header, Request, Response
from tests.integration.equality.work import Attempt, Work

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 4, 6, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_MAX_WINDOW = 2**31 - 1
_MAX_FRAME = 1 << 14


class Http2Connection(asyncio.Protocol):
    """Sends requests whenever fewer streams than `streams` are open."""

    def __init__(self, work: Work, streams: int) -> None:
        self._work = work
        self.on_end: Callable[[], None] = _nothing
        """Called when the connection has ended."""
        self._limit = streams
        self._buffer = b""
        self._decoder = Decoder()
        self._streams: dict[int, tuple[Attempt, Response]] = {}
        self._next_id = 1
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2), and the window of the connection.
        settings = b"\x00\x04" + _MAX_WINDOW.to_bytes(4, "big")
        window = (_MAX_WINDOW - 65_535).to_bytes(4, "big")
        start = _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, window)
        self._transport.write(_PREFACE + start)
        self._fill()

    def connection_lost(self, _: Exception | None) -> None:
        streams, self._streams = self._streams, {}
        self._closing = True
        for attempt, _response in streams.values():
            self._work.repeat(attempt)
        self.on_end()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        at = 0
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at < 9 + size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            self._on_frame(kind, flags, stream, buffer[at + 9 : at + 9 + size])
            at += 9 + size
        self._buffer = buffer[at:]
        self._fill()

    def close(self) -> None:
        self._transport.close()

    def _fill(self) -> None:
        """Send requests until the maximum number of streams is open."""
        while len(self._streams) < self._limit and not self._closing:
            attempt = self._work.next(http2=True)
            if attempt is None:
                return
            request = attempt.request
            self._streams[self._next_id] = attempt, Response(0)
            self._transport.write(_request_frames(self._next_id, request))
            self._next_id += 2

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case 1:  # HEADERS
                self._on_headers(flags, stream, payload)
            case 0:
                if stream in self._streams:
                    self._streams[stream][1].body += payload
                self._end_stream(flags, stream)
            case 3:  # RST_STREAM
                if stream in self._streams:
                    attempt, response = self._streams.pop(stream)
                    self._work.answer(attempt, response)
            case 4 if not flags & _ACK:  # SETTINGS
                self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
            case 6 if not flags & _ACK:  # PING
                self._transport.write(_frame(_PING, _ACK, 0, payload))
            case 7:  # GOAWAY
                self._closing = True
                self._transport.close()

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        assert flags & _END_HEADERS, "a response has more headers than the client reads"
        assert not flags & (_PADDED | _PRIORITY)
        fields = [(bytes(n), bytes(v)) for n, v in self._decoder.decode(payload, raw=True)]
        if stream in self._streams:
            response = self._streams[stream][1]
            status = dict(fields).get(b":status")
            if status is None:
                response.trailers = fields
            elif status.startswith(b"1"):
                response.informational += fields[1:]
            else:
                response.status, response.headers = int(status), fields[1:]
        self._end_stream(flags, stream)

    def _end_stream(self, flags: int, stream: int) -> None:
        if flags & _END_STREAM and stream in self._streams:
            attempt, response = self._streams.pop(stream)
            self._work.answer(attempt, response)


def _request_frames(stream: int, request: Request) -> bytes:
    ends = _END_STREAM if request.body is None else 0
    frames = [_header_frame(stream, request.http2_headers(), ends)]
    if request.body is not None:
        body, ends = request.body, 0 if request.trailers else _END_STREAM
        parts = [body[at : at + _MAX_FRAME] for at in range(0, len(body), _MAX_FRAME)] or [b""]
        frames += [_frame(_DATA, 0, stream, part) for part in parts[:-1]]
        frames.append(_frame(_DATA, ends, stream, parts[-1]))
    if request.trailers:
        frames.append(_header_frame(stream, request.trailers, _END_STREAM))
    return b"".join(frames)


def _header_frame(stream: int, headers: Iterable[Header], flags: int) -> bytes:
    block = b"".join(_literal(name, value) for name, value in headers)
    parts = [block[at : at + _MAX_FRAME] for at in range(0, len(block), _MAX_FRAME)]
    kinds = [(_HEADERS, flags), *((_CONTINUATION, 0) for _ in parts[1:])]
    kinds[-1] = kinds[-1][0], kinds[-1][1] | _END_HEADERS
    return b"".join(
        _frame(kind, each, stream, part) for (kind, each), part in zip(kinds, parts, strict=True)
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A literal header field without indexing, with a new name (RFC 7541 section 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    """A string literal without Huffman coding (RFC 7541 section 5.2)."""
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    size -= 0x7F
    length = bytearray((0x7F,))
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + text


def _nothing() -> None:
    """Do nothing."""
