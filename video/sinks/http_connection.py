"""A connection of HTTP/1.1 for one `POST` after the other, with bounds on what the server sends."""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import h11

_READ_SIZE: Final = 1 << 16
_MAX_HEAD: Final = 16 << 10
"""Bytes of the status line and the headers of a response."""
_MAX_BODY: Final = 64 << 10
"""Bytes of the body of a response that are read so that the connection can be used again."""
_BODY_TIMEOUT: Final = 1.0
"""Seconds for the rest of a response after its headers."""
_MAX_INFORMATIONAL: Final = 8

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of a response, and its header `retry-after`; empty if it has none."""

    status: int
    retry_after: bytes


class HttpConnection:
    """Sends requests to one server. Connects when it needs to. Does not follow redirects."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._http = h11.Connection(h11.CLIENT)

    async def post(self, target: bytes, headers: Headers, body: bytes, seconds: float) -> Answer:
        """The answer to a request. `seconds`: time until its headers have arrived.

        Raises OSError, of which TimeoutError is a kind, and h11.ProtocolError.
        """
        try:
            async with asyncio.timeout(seconds):
                answer = await self._exchange(target, headers, body)
        except BaseException:
            self.close()
            raise
        with suppress(OSError, h11.ProtocolError):
            async with asyncio.timeout(_BODY_TIMEOUT):
                await self._finish()
        if self._http.our_state is not h11.IDLE:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _exchange(self, target: bytes, headers: Headers, body: bytes) -> Answer:
        request = h11.Request(method=b"POST", target=target, headers=headers)
        if self._streams is not None:
            # The server may have closed the connection since the last request.
            with suppress(ConnectionError, h11.RemoteProtocolError):
                return await self._send(request, body)
            self.close()
        await self._connect()
        return await self._send(request, body)

    async def _connect(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._streams = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, limit=_READ_SIZE
        )

    async def _send(self, request: h11.Request, body: bytes) -> Answer:
        assert self._streams is not None
        _, writer = self._streams
        head = self._http.send(request)
        data, end = self._http.send(h11.Data(body)), self._http.send(h11.EndOfMessage())
        writer.write(b"".join([head or b"", data or b"", end or b""]))
        await writer.drain()
        for _ in range(_MAX_INFORMATIONAL):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                headers = {bytes(name): bytes(value) for name, value in event.headers}
                return Answer(event.status_code, headers.get(b"retry-after", b""))
            if not isinstance(event, h11.InformationalResponse):
                break
        raise h11.RemoteProtocolError("no response")

    async def _next_event(self) -> object:
        assert self._streams is not None
        reader, _ = self._streams
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await reader.read(_READ_SIZE))
        return event

    async def _finish(self) -> None:
        """Read the rest of the response, so that the connection can be used again."""
        left = _MAX_BODY
        while left > 0:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                left -= len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                return
            else:
                return
