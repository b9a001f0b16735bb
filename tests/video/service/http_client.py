"""An HTTP/1.1 client that reads the response while it still sends the request."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11

TIMEOUT = 20.0


@dataclass(slots=True)
class Exchange:
    """One request and its response."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    rest: bytes = b""

    async def send(self, body: bytes) -> None:
        """Send a part of the body."""
        self.writer.write(self.protocol.send(h11.Data(data=body)) or b"")
        async with asyncio.timeout(TIMEOUT):
            await self.writer.drain()

    def end(self) -> None:
        """Send the end of the body."""
        self.writer.write(self.protocol.send(h11.EndOfMessage()) or b"")

    async def response(self) -> h11.Response:
        """The head of the response."""
        event = await self._event()
        assert isinstance(event, h11.Response)
        return event

    async def line(self) -> bytes:
        """The next line of the response; empty at its end."""
        while b"\n" not in self.rest:
            event = await self._event()
            if not isinstance(event, h11.Data):
                return b""
            self.rest += bytes(event.data)
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    async def event(self) -> dict[str, Any]:
        """The next event of an NDJSON response."""
        found: dict[str, Any] = json.loads(await self.line())
        return found

    async def exactly(self, count: int) -> bytes:
        """The next so many bytes of the response."""
        while len(self.rest) < count:
            event = await self._event()
            assert isinstance(event, h11.Data)
            self.rest += bytes(event.data)
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    async def body(self) -> bytes:
        """The rest of the response."""
        found = self.rest
        while isinstance(event := await self._event(), h11.Data):
            found += bytes(event.data)
        return found

    async def _event(self) -> Any:
        async with asyncio.timeout(TIMEOUT):
            while (event := self.protocol.next_event()) is h11.NEED_DATA:
                self.protocol.receive_data(await self.reader.read(1 << 16))
        return event


@asynccontextmanager
async def exchange(
    address: str, method: str, path: str, headers: Mapping[str, str]
) -> AsyncIterator[Exchange]:
    """Send the head of a request. Closes the connection at the end."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    found = Exchange(reader, writer)
    sent = [("host", "gateway"), *headers.items()]
    if method == "POST" and "content-length" not in headers:
        sent.append(("transfer-encoding", "chunked"))
    request = h11.Request(method=method, target=path, headers=sent)
    writer.write(found.protocol.send(request) or b"")
    if method == "GET":
        found.end()
    try:
        yield found
    finally:
        writer.close()
