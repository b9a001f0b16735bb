"""gRPC server on the running event loop: accepts connections, moves bytes between sockets and
`http2.Connection`, and shuts them down gracefully or at once.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, cast

from extproc.memory_budget import MemoryBudget
from extproc.rpc import Services
from extproc.transport.address import TcpAddress, UnixAddress, parse_address
from extproc.transport.aio.call import ServerCall, ServerState
from extproc.transport.aio.deadlines import Deadlines
from extproc.transport.aio.turns import Turns
from extproc.transport.counters import Counters
from extproc.transport.grpc.requests import GrpcRequest, request_parser
from extproc.transport.http2.connection import Connection
from extproc.transport.limits import TransportLimits
from extproc.transport.tls import Tls
from sluice.tls import peer_names

BACKLOG: Final = 1024
READ_PARTS: Final = 8
MIN_READ_PART: Final = 8192
"""The bytes of one read are processed in parts, with a write after each part. So the peer can
process the first responses while this process handles the rest. Each part costs a system call, so a
part is large enough for several requests."""
LINGER_SECONDS: Final = 1.0
"""Time for the peer to read the last frames before its connection is aborted."""


class AsyncioServer:
    """`extproc.transport.Server` on asyncio or uvloop."""

    def __init__(
        self,
        services: Services,
        address: str,
        *,
        limits: TransportLimits,
        memory: MemoryBudget,
        tls: Tls | None,
        reuse_port: bool,
    ) -> None:
        self._memory = memory
        self._address = parse_address(address)
        self.limits = limits
        self._tls = tls
        self._reuse_port = reuse_port
        self._parse_request = request_parser(services)
        self._listener: asyncio.Server | None = None
        self._draining = False
        self._connections: set[_ServerProtocol] = set()
        self._connection_closed = asyncio.Event()
        self._timeout_timer: asyncio.TimerHandle | None = None
        self._state: ServerState | None = None
        self.counters = Counters()

    async def start(self) -> str:
        loop = asyncio.get_running_loop()
        turns = Turns(loop)
        self._state = ServerState(self.limits, self.counters, Deadlines(loop), self._memory, turns)
        make_protocol = partial(_ServerProtocol, self, loop, turns)
        context = self._tls.context() if self._tls else None
        tls_timeout = self.limits.handshake_timeout if context else None
        address = self._address
        if isinstance(address, UnixAddress):
            _unlink(address)
            self._listener = await loop.create_unix_server(
                make_protocol,
                address.path,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=tls_timeout,
            )
        else:
            self._listener = await loop.create_server(
                make_protocol,
                address.host,
                address.port,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=tls_timeout,
                reuse_port=self._reuse_port or None,
            )
            port = self._listener.sockets[0].getsockname()[1]
            address = TcpAddress(address.host, port)
        self._schedule_timeouts(loop)
        return str(address)

    async def drain(self, deadline_seconds: float) -> None:
        self._draining = True
        self._stop_listening()
        for connection in list(self._connections):
            connection.go_away()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                while self._connections:
                    self._connection_closed.clear()
                    await self._connection_closed.wait()
        await self.close()

    async def close(self) -> None:
        self._stop_listening()
        if self._timeout_timer is not None:
            self._timeout_timer.cancel()
            self._timeout_timer = None
        for connection in list(self._connections):
            connection.abort()
        if self._state is not None:
            self._state.deadlines.close()
            if self._state.tasks:
                await asyncio.wait(self._state.tasks, timeout=LINGER_SECONDS)

    @property
    def draining(self) -> bool:
        """Whether the server is draining, so that a new connection must be drained at once."""
        return self._draining

    def accepts(self, tls: ssl.SSLObject) -> bool:
        """Whether the client may use the connection.

        RFC 9113 section 3.2: HTTP/2 over TLS requires ALPN "h2".
        """
        if tls.selected_alpn_protocol() != "h2":
            return False
        names = None if self._tls is None else self._tls.client_names
        return names is None or not names().isdisjoint(peer_names(tls))

    def add_connection(self, protocol: "_ServerProtocol", now: float) -> Connection[GrpcRequest]:
        self._connections.add(protocol)
        self.counters.connections_opened += 1
        return Connection(
            limits=self.limits,
            counters=self.counters,
            parse_request=self._parse_request,
            open_stream=self._open_stream,
            on_output=protocol.flush_soon,
            now=now,
        )

    def remove_connection(self, protocol: "_ServerProtocol") -> None:
        if protocol in self._connections:
            self._connections.discard(protocol)
            self.counters.connections_closed += 1
            self._connection_closed.set()

    def _open_stream(
        self, connection: Connection[GrpcRequest], stream_id: int, request: GrpcRequest
    ) -> ServerCall:
        return ServerCall(connection, stream_id, request, cast("ServerState", self._state))

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        if isinstance(self._address, UnixAddress):
            _unlink(self._address)

    def _schedule_timeouts(self, loop: asyncio.AbstractEventLoop) -> None:
        limits = self.limits
        shortest = min(
            limits.handshake_timeout,
            limits.idle_timeout,
            limits.keepalive_interval,
            limits.keepalive_timeout,
            limits.stall_timeout,
        )
        delay = max(shortest / 4, 0.01)
        self._timeout_timer = loop.call_later(delay, self._check_timeouts, loop)

    def _check_timeouts(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule_timeouts(loop)
        now = loop.time()
        for connection in list(self._connections):
            connection.check_timeouts(now)


def _unlink(address: UnixAddress) -> None:
    """Remove a socket file: it outlives its process, and prevents the next one from binding."""
    Path(address.path).unlink(missing_ok=True)


class _ServerProtocol(asyncio.Protocol):
    """One socket and its HTTP/2 connection."""

    def __init__(
        self, server: AsyncioServer, loop: asyncio.AbstractEventLoop, turns: Turns
    ) -> None:
        self._server = server
        self._loop = loop
        self._turns = turns
        self._unprocessed = b""
        """Received bytes that wait for a turn. Meanwhile, the transport reads no more."""
        self._transport: asyncio.Transport | None = None
        self._connection: Connection[GrpcRequest] | None = None
        self._shut_down = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Below the high-water mark, uvloop collects writes until the end of the loop iteration;
        # above, it writes at once. With a mark of 0, TLS would resume writing only at the next
        # read, because even its empty buffer reaches the mark.
        self._transport.set_write_buffer_limits(high=1)
        self._set_send_buffer(transport.get_extra_info("socket"))
        tls = transport.get_extra_info("ssl_object")
        if isinstance(tls, ssl.SSLObject) and not self._server.accepts(tls):
            self._transport.abort()
            return
        self._connection = self._server.add_connection(self, self._loop.time())
        if self._server.draining:
            self._connection.go_away()
        self._flush()

    def _set_send_buffer(self, connected: socket.socket) -> None:
        if connected.family == socket.AF_UNIX:
            size = self._server.limits.socket_send_buffer
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def data_received(self, data: bytes) -> None:
        if self._unprocessed:
            # TLS passes on what it had decrypted before the pause.
            self._unprocessed += data
        else:
            self._process(data)

    def _process(self, data: bytes) -> None:
        step = max(MIN_READ_PART, len(data) // READ_PARTS)
        for start in range(0, len(data), step):
            if self._connection is None:
                break
            if start and self._turns.is_over():
                self._process_later(data[start:])
                break
            self._connection.receive_data(data[start : start + step], self._loop.time())
            self._flush()

    def _process_later(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._unprocessed = data
        transport.pause_reading()
        self._turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        data, self._unprocessed = self._unprocessed, b""
        self._process(data)
        transport = self._transport
        if not self._unprocessed and transport is not None and not transport.is_closing():
            transport.resume_reading()

    def eof_received(self) -> None:
        """Close the connection: gRPC clients never half-close the socket."""

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume_writing()
            self._flush()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._connection is not None:
            self._connection.connection_lost()
            self._connection = None  # breaks a reference cycle
        self._unprocessed = b""
        self._server.remove_connection(self)

    def go_away(self) -> None:
        if self._connection is not None:
            self._connection.go_away()
            self._flush()

    def abort(self) -> None:
        if self._connection is not None and self._transport is not None:
            self._connection.connection_lost()
            self._transport.abort()
            self._server.remove_connection(self)

    def check_timeouts(self, now: float) -> None:
        if self._connection is not None:
            self._connection.check_timeouts(now)

    def flush_soon(self) -> None:
        """Write at the end of the loop iteration, so that calls that finish in the same iteration
        share one write."""
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        connection, transport = self._connection, self._transport
        if connection is None or transport is None or transport.is_closing() or self._shut_down:
            return
        while buffers := connection.take_buffers():
            if len(buffers) == 1:
                transport.write(buffers[0])
            else:
                transport.writelines(buffers)
            if connection.paused:
                break
        if connection.closing or connection.drained:
            self._close_socket(transport, at_once=connection.closing)

    def _close_socket(self, transport: asyncio.Transport, *, at_once: bool) -> None:
        """Close the socket at once, or half-close it and wait for the peer.

        After an immediate close, the system resets the TCP connection when more data arrives. The
        reset may reach the peer before the last frames.
        """
        self._shut_down = True
        if at_once or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
        self._loop.call_later(LINGER_SECONDS, transport.abort)
