"""A connection of HTTP/1.1 (RFC 9112), with one request at a time."""

import asyncio
from collections.abc import Callable
from typing import cast

from tests.integration.equality.request import Header, Request, Response
from tests.integration.equality.work import Attempt, Work


class Http1Connection(asyncio.Protocol):
    """Sends the next request when the response to the last one is complete."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.on_end: Callable[[], None] = _nothing
        """Called when the connection has ended."""
        self._buffer = b""
        self._current: Attempt | None = None
        self._informational: list[Header] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        current, self._current = self._current, None
        if current is not None:
            self._work.answer(current, Response(0))
        self.on_end()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._current is not None and (response := self._parse(self._current.request)):
            current, self._current = self._current, None
            self._work.answer(current, response)
            if b"connection: close" in self._head:
                self._transport.close()
                return
            self._send()

    def close(self) -> None:
        self._transport.close()

    def _send(self) -> None:
        self._current = self._work.next(http2=False)
        if self._current is not None:
            self._transport.write(self._current.request.http1())

    def _parse(self, request: Request) -> Response | None:
        """Take a whole response from the buffer; None if it is not complete yet."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        self._head = head = self._buffer[:end].lower()
        status = int(head[9:12])
        start = end + 4
        if 100 <= status < 200 and status != 101:
            self._informational += _headers(self._buffer[:end])
            self._buffer = self._buffer[start:]
            return self._parse(request)
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        if request.method == b"HEAD" or status in (101, 204, 304):
            body, stop = b"", start
        elif found:
            stop = start + int(rest.partition(b"\r\n")[0])
            if len(self._buffer) < stop:
                return None
            body = self._buffer[start:stop]
        elif b"\r\ntransfer-encoding: chunked" in head:
            stop = self._buffer.find(b"0\r\n\r\n", start) + 5
            if stop < 5:
                return None
            body = self._buffer[start:stop]
        else:
            body, stop = b"", start
        headers = _headers(self._buffer[:end])
        self._buffer = self._buffer[stop:]
        informational, self._informational = self._informational, []
        return Response(status, headers, body, informational=informational)


def _headers(head: bytes) -> list[Header]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [(name.lower(), value.strip()) for name, _, value in pairs]


def _nothing() -> None:
    """Do nothing."""
