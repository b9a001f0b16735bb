"""The same services on grpcio's asyncio server: the reference for tests and measurements of our own
transport, and an alternative to it.

Every method is served as a bidirectional stream of bytes; a unary method is a special case of it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio

from extproc.memory_budget import MemoryBudget
from extproc.rpc import ExhaustionHandler, Handler, HandlerFactory, RpcError, Services, StatusCode
from extproc.segments import Content
from extproc.transport.address import TcpAddress, UnixAddress, parse_address
from extproc.transport.counters import Counters
from extproc.transport.limits import TransportLimits
from extproc.transport.tls import Tls
from sluice.grpc_credentials import AuthContext, grpc_peer_names, server_credentials

_STATUS = {status.value[0]: status for status in grpc.StatusCode}


class _Context(AuthContext, Protocol):
    """The part of grpc.aio.ServicerContext that is used; grpcio has no type hints."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...
    def time_remaining(self) -> float | None: ...
    def set_code(self, code: object) -> None: ...
    def set_details(self, details: str) -> None: ...
    async def read(self) -> bytes: ...
    async def write(self, message: bytes) -> None: ...


class _GrpcioCall:
    """One call. The coroutine `run` reads messages and runs the handler.

    `run` also writes the responses that the handler sends while `run` is calling it. A separate
    task writes the responses that the handler sends at another time.
    """

    def __init__(self, context: _Context, counters: Counters, memory: MemoryBudget) -> None:
        self._context = context
        self._counters = counters
        self._memory = memory
        self._outgoing: deque[bytes] = deque()
        self._write_lock = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[object] | None = asyncio.current_task()
        """The task of `run`, while `finish` may cancel it."""
        self._in_handler = True
        """Whether `run` is calling the handler; `run` then writes the responses."""
        self._status: tuple[StatusCode, str] | None = None
        self._ended = False
        remaining = context.time_remaining()
        loop = asyncio.get_running_loop()
        self._deadline = None if remaining is None else loop.time() + remaining

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return [(key, value) for key, value in self._context.invocation_metadata() or ()]

    @property
    def deadline(self) -> float | None:
        return self._deadline

    def send(self, message: Content) -> None:
        if self._ended or self._status is not None:
            return
        self._outgoing.append(bytes(message))
        if not self._in_handler and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write_all())

    async def writable(self) -> None:
        if not self._ended:
            await self._write_all()

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        if self._ended or self._status is not None:
            return
        self._status = (code, details)
        if not self._in_handler and self._reader is not None:
            self._reader.cancel()  # `run` waits for a message that is no longer needed

    async def run(self, factory: HandlerFactory) -> None:
        """Run the handler from the first message to the status."""
        handler: Handler | None = None
        try:
            handler = factory(self)
            await self._read_all(handler)
        except RpcError as error:
            self._status = self._status or (error.code, error.details)
        except asyncio.CancelledError:
            if self._status is None:
                self._cancel(handler)
                raise
        except Exception as error:
            self._status = self._status or (StatusCode.UNKNOWN, type(error).__name__)
        self._in_handler = True
        await self._send_status(handler)

    async def _read_all(self, handler: Handler) -> None:
        while self._status is None:
            self._in_handler = False
            message = await self._context.read()
            if message is grpc.aio.EOF:
                await self._call_handler(handler.on_half_close)
                break
            self._counters.messages_received += 1
            if not self._memory.reserve(len(message)):
                await self._call_handler(partial(_exhausted, handler))
                continue
            try:
                await self._call_handler(partial(handler.on_message, message))
            finally:
                self._memory.release(len(message))
        if self._status is None:
            self._in_handler = False
            await asyncio.get_running_loop().create_future()  # until `finish` cancels it

    async def _call_handler(self, method: Callable[[], Awaitable[None] | None]) -> None:
        self._in_handler = True
        awaitable = method()
        if awaitable is not None:
            self._in_handler = False
            if self._outgoing:
                await self._write_all()
            await self._await_uncancelled(awaitable)
        if self._outgoing:
            await self._write_all()

    async def _await_uncancelled(self, awaitable: Awaitable[None]) -> None:
        """Await without a reader task: a handler may call `finish`, which must not cancel it."""
        self._reader, reader = None, self._reader
        try:
            await awaitable
        finally:
            self._reader = reader

    async def _write_all(self) -> None:
        async with self._write_lock:
            while self._outgoing and not self._ended:
                message = self._outgoing.popleft()
                await self._context.write(message)
                self._counters.messages_sent += 1

    async def _send_status(self, handler: Handler | None) -> None:
        assert self._status is not None
        try:
            await self._write_all()
        except asyncio.CancelledError:
            self._cancel(handler)
            raise
        code, details = self._status
        self._ended = True
        self._context.set_code(_STATUS[int(code)])
        self._context.set_details(details)

    def _cancel(self, handler: Handler | None) -> None:
        self._ended = True
        self._outgoing.clear()
        if handler is not None:
            handler.on_cancel()


def _exhausted(handler: Handler) -> None:
    if not isinstance(handler, ExhaustionHandler):
        handler.on_cancel()
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, "the server has no memory for the message")
    # grpcio itself ends the call of a message above `max_message`.
    handler.on_exhausted(too_large=False)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no type hints
    def __init__(
        self,
        services: Services,
        counters: Counters,
        memory: MemoryBudget,
        names: Callable[[], frozenset[str]] | None,
    ) -> None:
        self._services = services
        self._names = names
        self._counters = counters
        self._memory = memory

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        self._counters.streams_opened += 1
        factory = self._services.get(details.method)
        if factory is None:
            self._counters.streams_closed += 1
            return None

        async def behavior(_requests: object, context: _Context) -> None:
            try:
                if self._names is not None and self._names().isdisjoint(grpc_peer_names(context)):
                    context.set_code(grpc.StatusCode.PERMISSION_DENIED)
                    return
                await _GrpcioCall(context, self._counters, self._memory).run(factory)
            finally:
                self._counters.streams_closed += 1

        return grpc.stream_stream_rpc_method_handler(behavior)


class GrpcioServer:
    """`extproc.transport.Server` on grpc.aio."""

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
        self._services = services
        self._address = parse_address(address)
        self._limits = limits
        self._memory = memory
        self._tls = tls
        self._reuse_port = reuse_port
        self._server: grpc.aio.Server | None = None
        self.counters = Counters()

    async def start(self) -> str:
        server = grpc.aio.server(options=self._options())
        names = None if self._tls is None else self._tls.client_names
        server.add_generic_rpc_handlers(
            (_Methods(self._services, self.counters, self._memory, names),)
        )
        address = self._address
        try:
            if self._tls is None:
                port = server.add_insecure_port(str(address))
            else:
                port = server.add_secure_port(str(address), server_credentials(self._tls.files))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await server.start()
        self._server = server
        return str(address if isinstance(address, UnixAddress) else TcpAddress(address.host, port))

    async def drain(self, deadline_seconds: float) -> None:
        if self._server is not None:
            await self._server.stop(deadline_seconds)
        self._unlink()

    async def close(self) -> None:
        await self.drain(0)

    def _unlink(self) -> None:
        if self._server is not None and isinstance(self._address, UnixAddress):
            with suppress(FileNotFoundError):
                Path(self._address.path).unlink()
        self._server = None

    def _options(self) -> list[tuple[str, int]]:
        limits = self._limits
        return [
            ("grpc.so_reuseport", int(self._reuse_port)),
            ("grpc.max_receive_message_length", limits.max_message),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
            ("grpc.absolute_max_metadata_size", limits.max_header_list),
            ("grpc.keepalive_time_ms", int(limits.keepalive_interval * 1000)),
            ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout * 1000)),
            ("grpc.max_connection_idle_ms", int(limits.idle_timeout * 1000)),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]
