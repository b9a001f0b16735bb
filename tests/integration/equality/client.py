"""A client that sends requests as exact bytes over many connections, in HTTP/1.1 and HTTP/2.

It sends what no client library would: names in upper case, wrong lengths, repeated headers.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from tests.integration.equality.http1_connection import Http1Connection
from tests.integration.equality.http2_connection import Http2Connection
from tests.integration.equality.request import Request
from tests.integration.equality.work import OnResponse, Work

TIMEOUT = 300.0
"""Seconds for all requests of one call."""

MAX_SHOWN = 5
"""Requests that an error quotes."""


class UnansweredError(Exception):
    """A request got no response."""


@dataclass(frozen=True, slots=True)
class Client:
    """Sends requests to one address over so many connections and streams at once.

    `http2_connections` have `streams`; each of the other `connections` has a request at a time.
    """

    host: str
    port: int
    connections: int = 32
    http2_connections: int = 2
    streams: int = 16

    async def send(self, requests: Iterable[Request], on_response: OnResponse) -> None:
        """Send all requests, each when a connection is free. Raises what `on_response` raises."""
        work = Work(requests, on_response)
        connections = _Connections(self, work)
        connections.open()
        try:
            async with asyncio.timeout(TIMEOUT):
                await work.done.wait()
        except TimeoutError:
            shown = "\n".join(map(str, work.unanswered[:MAX_SHOWN]))
            raise UnansweredError(f"no response within {TIMEOUT:g} s to\n{shown}") from None
        finally:
            await connections.close()
        if work.failure is not None:
            raise work.failure


class _Connections:
    """The connections of one call. A connection that ends is replaced while there is work."""

    def __init__(self, client: Client, work: Work) -> None:
        self._client = client
        self._work = work
        self._open: set[Http1Connection | Http2Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._closing = False

    def open(self) -> None:
        for _ in range(self._client.connections):
            self._connect(http2=False)
        for _ in range(self._client.http2_connections):
            self._connect(http2=True)

    async def close(self) -> None:
        self._closing = True
        for connection in self._open:
            connection.close()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _connect(self, *, http2: bool) -> None:
        if not self._closing:
            task = asyncio.create_task(self._connected(http2=http2))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connected(self, *, http2: bool) -> None:
        connection: Http1Connection | Http2Connection
        if http2:
            connection = Http2Connection(self._work, self._client.streams)
        else:
            connection = Http1Connection(self._work)
        connection.on_end = partial(self._on_end, connection, http2=http2)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: connection, self._client.host, self._client.port)
        self._open.add(connection)

    def _on_end(self, connection: Http1Connection | Http2Connection, *, http2: bool) -> None:
        self._open.discard(connection)
        self._connect(http2=http2)
