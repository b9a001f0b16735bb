"""A model server that answers with the head of the request, as it arrived.

It listens on all addresses of the loopback network, and names the address that it was called at:
each version of each model has an address of its own. The argument is the port.
"""

import asyncio
import sys
from typing import cast

import uvloop

HEADERS = b"x-sluice-reason: forged\r\nx-sluice-other: forged\r\nx-own: 1\r\n"
"""The gateway must replace or remove the first two headers, and forward the last."""


class Echo(asyncio.Protocol):
    """One connection. The body of a response is the address, a line break,
    and the request's head."""

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0
        """Bytes of the request's body that are still to come."""
        self._head: bytes | None = None
        """The head of a request whose chunked body is still to come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        host, port = transport.get_extra_info("sockname")
        self._address = f"{host}:{port}\n".encode()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._next():
            pass

    def _next(self) -> bool:
        """Handle the next part of a request. Returns whether there was a whole part."""
        if self._head is not None:
            return self._end_of_chunks(self._head)
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head, lower = self._buffer[:end], self._buffer[:end].lower()
        if b"\r\ntransfer-encoding: chunked" in lower:
            self._head, self._buffer = head, self._buffer[end + 2 :]
            return True
        _, found, rest = lower.partition(b"\r\ncontent-length: ")
        size = int(rest.partition(b"\r\n")[0]) if found else 0
        if len(self._buffer) < end + 4 + size:
            return False
        self._buffer = self._buffer[end + 4 + size :]
        self._answer(head)
        return True

    def _end_of_chunks(self, head: bytes) -> bool:
        end = self._buffer.find(b"\r\n0\r\n\r\n")
        if end < 0:
            return False
        self._head, self._buffer = None, self._buffer[end + 7 :]
        self._answer(head)
        return True

    def _answer(self, head: bytes) -> None:
        body = self._address + head
        start = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n" % (len(body), HEADERS)
        if b"\r\nx-echo: hints\r\n" in head:
            hints = b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % HEADERS
            self._transport.write(hints)
        if b"\r\nx-echo: trailers\r\n" in head:
            start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n%b\r\n" % HEADERS
            body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, HEADERS)
        self._transport.write(start + (b"" if head.startswith(b"HEAD ") else body))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "0.0.0.0", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
