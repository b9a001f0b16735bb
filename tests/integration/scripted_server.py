"""An HTTP/1.1 server that does what the path says, such as to give up on a slow client."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import quote_from_bytes

PATIENCE = 0.2
"""Seconds that the server waits for a client that sends or reads nothing."""

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nno"
LARGE = 64 << 20
"""Bytes of a response that no buffer between the server and the client can hold."""

_END = b"0\r\n\r\n"


class Exchange:
    """One request, and the connection for its response."""

    def __init__(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.target = head.split(b" ", 2)[1]
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        self._length = int(headers.get(b"content-length", 0))
        self._chunked = b"transfer-encoding" in headers

    async def body(self) -> None:
        """Reads the whole body."""
        if self._chunked:
            await self._reader.readuntil(_END)
        else:
            await self._reader.readexactly(self._length)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(1024)

    def reset(self) -> None:
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


async def _ok(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send(OK)


async def _error(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send(ERROR)


async def _conflict(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send(b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nno")


async def _close(exchange: Exchange) -> None:
    await exchange.body()
    exchange.close()


async def _close_in_response(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send(OK[:-1])
    exchange.close()


async def _hang(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.receive()


async def _hang_in_response(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send(OK[:-1])
    await exchange.receive()


async def _read_timeout_close(exchange: Exchange) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(exchange.body(), PATIENCE)
        await exchange.send(OK)
    exchange.close()


async def _read_timeout_error(exchange: Exchange) -> None:
    try:
        await asyncio.wait_for(exchange.body(), PATIENCE)
        await exchange.send(OK)
    except TimeoutError:
        await exchange.send(ERROR)


async def _read_timeout_slow_error(exchange: Exchange) -> None:
    """The response lasts until the client has sent the rest of its request."""
    try:
        await asyncio.wait_for(exchange.body(), PATIENCE)
    except TimeoutError:
        await exchange.send(ERROR[:-1])
        await exchange.body()
    await exchange.send(ERROR[-1:])


async def _write_timeout(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE)
    try:
        for _ in range(LARGE >> 16):
            await asyncio.wait_for(exchange.send(bytes(1 << 16)), PATIENCE)
    except TimeoutError:
        exchange.reset()


async def _websocket(exchange: Exchange) -> None:
    """Answers one frame, then closes the connection as the closing handshake demands."""
    await exchange.send(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    )
    await exchange.send(await exchange.receive())
    exchange.close()


async def _redirect(exchange: Exchange) -> None:
    """Adds a slash and encodes the URL, as Starlette does."""
    await exchange.body()
    location = b"http://model/" + quote_from_bytes(exchange.target).encode()
    await exchange.send(
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % location
    )


_SCRIPTS: dict[bytes, Callable[[Exchange], Awaitable[None]]] = {
    b"ok": _ok,
    b"error": _error,
    b"conflict": _conflict,
    b"close": _close,
    b"close-in-response": _close_in_response,
    b"hang": _hang,
    b"hang-in-response": _hang_in_response,
    b"read-timeout-close": _read_timeout_close,
    b"read-timeout-error": _read_timeout_error,
    b"read-timeout-slow-error": _read_timeout_slow_error,
    b"write-timeout": _write_timeout,
    b"websocket": _websocket,
    b"redirect": _redirect,
}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while not writer.is_closing():
            exchange = Exchange(await reader.readuntil(b"\r\n\r\n"), reader, writer)
            path = exchange.target.partition(b"?")[0]
            await _SCRIPTS[path.rpartition(b"/")[2]](exchange)
    writer.close()


@contextlib.contextmanager
def scripted_server() -> Iterator[str]:
    """Runs the server on a thread during a with block. Yields its address."""
    started: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1 << 20)
        host, port = server.sockets[0].getsockname()
        started.append(f"{host}:{port}")
        ready.set()
        await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
