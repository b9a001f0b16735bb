"""Our own gRPC server on the running event loop: accepts connections, moves bytes between sockets
and `http2.Connection`, and ends them gracefully or at once.
"""

import asyncio
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, cast

from extproc.rpc import Services
from extproc.transport.address import TcpAddress, UnixAddress, parse_address
from extproc.transport.aio.call import ServerCall, Shared
from extproc.transport.aio.deadlines import Deadlines
from extproc.transport.counters import Counters
from extproc.transport.grpc.requests import GrpcRequest, reader
from extproc.transport.http2.connection import Connection
from extproc.transport.limits import TransportLimits
from extproc.transport.tls import Tls

BACKLOG: Final = 1024
PARTS: Final = 8
LEAST_PART: Final = 8192
"""A read is answered in parts, so that the peer goes on with the first answers while this process
works on the rest: 10 % more requests a second than one write for all, with two cores and 64
connections (make bench-callout). Each part costs a system call, 3 us; it has ten usual requests.
"""
GOODBYE_SECONDS: Final = 1.0
"""How long a peer may take to read a GOAWAY before its connection is cut."""


class AsyncioServer:
    """`extproc.transport.Server` on asyncio or uvloop."""

    def __init__(
        self,
        services: Services,
        address: str,
        *,
        limits: TransportLimits,
        tls: Tls | None,
        reuse_port: bool,
    ) -> None:
        self._address = parse_address(address)
        self._limits = limits
        self._tls = tls
        self._reuse_port = reuse_port
        self._read_request = reader(services)
        self._listener: asyncio.Server | None = None
        self._draining = False
        self._peers: set[_Peer] = set()
        self._emptied = asyncio.Event()
        self._ticker: asyncio.TimerHandle | None = None
        self._shared: Shared | None = None
        self.counters = Counters()

    async def start(self) -> str:
        loop = asyncio.get_running_loop()
        self._shared = Shared(self._limits, self.counters, Deadlines(loop))
        make_peer = partial(_Peer, self, loop)
        context = self._tls.context() if self._tls else None
        handshake = self._limits.handshake_timeout if context else None
        address = self._address
        if isinstance(address, UnixAddress):
            _unlink(address)
            self._listener = await loop.create_unix_server(
                make_peer,
                address.path,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=handshake,
            )
        else:
            self._listener = await loop.create_server(
                make_peer,
                address.host,
                address.port,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=handshake,
                reuse_port=self._reuse_port or None,
            )
            port = self._listener.sockets[0].getsockname()[1]
            address = TcpAddress(address.host, port)
        self._schedule_tick(loop)
        return str(address)

    async def drain(self, deadline_seconds: float) -> None:
        self._draining = True
        self._stop_listening()
        for peer in list(self._peers):
            peer.go_away()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                while self._peers:
                    self._emptied.clear()
                    await self._emptied.wait()
        await self.close()

    async def close(self) -> None:
        self._stop_listening()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        for peer in list(self._peers):
            peer.abort()
        if self._shared is not None:
            self._shared.deadlines.close()
            if self._shared.tasks:
                await asyncio.wait(self._shared.tasks, timeout=GOODBYE_SECONDS)

    @property
    def draining(self) -> bool:
        """Whether a connection that was under way when the drain began comes too late."""
        return self._draining

    def open_connection(self, peer: "_Peer", now: float) -> Connection[GrpcRequest]:
        self._peers.add(peer)
        self.counters.connections_opened += 1
        return Connection(
            limits=self._limits,
            counters=self.counters,
            interpret=self._read_request,
            accept=self._accept,
            on_output=peer.flush_soon,
            now=now,
        )

    def forget(self, peer: "_Peer") -> None:
        if peer in self._peers:
            self._peers.discard(peer)
            self.counters.connections_closed += 1
            self._emptied.set()

    def _accept(
        self, connection: Connection[GrpcRequest], stream_id: int, request: GrpcRequest
    ) -> ServerCall:
        return ServerCall(connection, stream_id, request, cast("Shared", self._shared))

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        if isinstance(self._address, UnixAddress):
            _unlink(self._address)

    def _schedule_tick(self, loop: asyncio.AbstractEventLoop) -> None:
        limits = self._limits
        shortest = min(
            limits.handshake_timeout,
            limits.idle_timeout,
            limits.keepalive_interval,
            limits.keepalive_timeout,
            limits.stall_timeout,
        )
        self._ticker = loop.call_later(max(shortest / 4, 0.01), self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule_tick(loop)
        now = loop.time()
        for peer in list(self._peers):
            peer.tick(now)


def _unlink(address: UnixAddress) -> None:
    """A socket file outlives the process that bound it, and would stop the next from binding."""
    Path(address.path).unlink(missing_ok=True)


class _Peer(asyncio.Protocol):
    """One socket and its HTTP/2 connection."""

    def __init__(self, server: AsyncioServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._connection: Connection[GrpcRequest] | None = None
        self._left = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # uvloop writes at once only what is above this; else it collects until the turn's end. Not
        # 0, which TLS has reached when nothing waits: it would then resume only with the next read.
        self._transport.set_write_buffer_limits(high=1)
        tls = transport.get_extra_info("ssl_object")
        if isinstance(tls, ssl.SSLObject) and tls.selected_alpn_protocol() != "h2":
            self._transport.abort()  # RFC 9113 section 3.2: over TLS, HTTP/2 is agreed on by ALPN
            return
        self._connection = self._server.open_connection(self, self._loop.time())
        if self._server.draining:
            self._connection.go_away()
        self._flush()

    def data_received(self, data: bytes) -> None:
        step = max(LEAST_PART, len(data) // PARTS)
        for start in range(0, len(data), step):
            if self._connection is None:
                break
            self._connection.receive(data[start : start + step], self._loop.time())
            self._flush()

    def eof_received(self) -> None:
        """A peer that sends no more wants no more: gRPC clients never half-close the socket."""

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume()
            self._flush()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._connection is not None:
            self._connection.lost()
            self._connection = None  # which refers back to this object
        self._server.forget(self)

    def go_away(self) -> None:
        if self._connection is not None:
            self._connection.go_away()
            self._flush()

    def abort(self) -> None:
        if self._connection is not None and self._transport is not None:
            self._connection.lost()
            self._transport.abort()
            self._server.forget(self)

    def tick(self, now: float) -> None:
        if self._connection is not None:
            self._connection.tick(now)

    def flush_soon(self) -> None:
        """Write at the end of this turn of the loop, so that calls which end together share one."""
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        connection, transport = self._connection, self._transport
        if connection is None or transport is None or transport.is_closing() or self._left:
            return
        while data := connection.take():
            transport.write(data)
            if connection.paused:
                break
        if connection.closing or connection.drained:
            self._leave(transport, at_once=connection.closing)

    def _leave(self, transport: asyncio.Transport, *, at_once: bool) -> None:
        """Close the socket; in peace, when the peer does so too.

        A socket that is closed at once answers what is still on its way with a reset, which may
        overtake the last frames.
        """
        self._left = True
        if at_once or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
        self._loop.call_later(GOODBYE_SECONDS, transport.abort)
