"""Connections of an HTTP server, with bounds on what a client can hold without credentials.

A client that sends nothing, or sends or reads very slowly, must not keep others out. uvicorn has no
such bounds: it counts connections without a request as requests, and waits for their clients.
"""

import asyncio
import ssl
from typing import ClassVar, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sluice.http.access import PEER_NAMES
from sluice.tls import peer_names

MAX_CONNECTIONS: Final = 512
"""Connections of one server. For a further one, the one that has waited longest is closed."""

HEAD_TIMEOUT: Final = 10.0
"""Seconds in which a client must send the head of a request, and the rest of a refused body."""

STALL_TIMEOUT: Final = 30.0
"""Seconds in which a client must take `MIN_TAKEN` bytes of a response, or the rest of it."""

MIN_TAKEN: Final = 16 << 10

CHECK_INTERVAL: Final = 2.0
"""Seconds between two checks of a connection."""


class Unread:
    """Whether a client takes its response, by the bytes that it has not taken yet."""

    def __init__(self, now: float) -> None:
        self._least, self._since = 0, now

    def is_stalled(self, size: int, now: float) -> bool:
        """Whether the client has taken too little lately. `size`: bytes that it has not taken."""
        if size == 0 or self._least == 0 or size <= self._least - MIN_TAKEN:
            self._least, self._since = size, now
        return now - self._since >= STALL_TIMEOUT


class Connection(H11Protocol):
    """A connection. With TLS, its requests have the names in the client's certificate."""

    app: ASGIApp
    max_connections: ClassVar[int] = MAX_CONNECTIONS
    head_timeout: ClassVar[float] = HEAD_TIMEOUT

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if isinstance(tls, ssl.SSLObject):
            self.app = _with_peer(self.app, peer_names(tls))
        now = self.loop.time()
        self._waits_since, self._unread = now, Unread(now)
        self._check = self.loop.call_later(CHECK_INTERVAL, self._close_if_idle)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a request, if there are too many."""
        if len(self.connections) <= self.max_connections:
            return
        waiting = [
            (each.waits_since, id(each), each)
            for each in self.connections
            if isinstance(each, Connection) and each.waits_since is not None
        ]
        _, _, longest = min(waiting)  # this one waits too
        self.connections.discard(longest)
        longest.abort()

    @property
    def waits_since(self) -> float | None:
        """Since when the connection has no request; None while it has one."""
        in_request = self.cycle is not None and not self.cycle.response_complete
        return None if in_request else self._waits_since

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def on_response_complete(self) -> None:
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def handle_events(self) -> None:
        # Requests that a client has sent ahead are not answered after it has left.
        if not self.transport.is_closing():
            super().handle_events()

    def _close_if_idle(self) -> None:
        now, unread = self.loop.time(), self.transport.get_write_buffer_size()
        if unread:
            self._waits_since = now
        waits_since = self.waits_since
        if self._unread.is_stalled(unread, now) or (
            waits_since is not None and now - waits_since >= self.head_timeout
        ):
            self.abort()
        else:
            self._check = self.loop.call_later(CHECK_INTERVAL, self._close_if_idle)


def _with_peer(app: ASGIApp, names: frozenset[str]) -> ASGIApp:
    async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, PEER_NAMES: names}, receive, send)

    return with_peer
