"""Servers of a small set of services, over each transport, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from extproc.rpc import Call, RpcError, Services, StatusCode, unary
from extproc.services.health import Health
from extproc.transport import TRANSPORTS, Server, Tls, TransportLimits, TransportName, serve


class Echo:
    """Sends every message back at once, and ends when the client does."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def on_message(self, message: bytes) -> None:
        self.call.send(message)

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        pass


class SlowEcho(Echo):
    """Sends every message back from a coroutine."""

    async def on_message(self, message: bytes) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.call.send(message)


class Count(Echo):
    """Answers one number with that many messages, fairly."""

    async def on_message(self, message: bytes) -> None:  # type: ignore[override]
        size, times = (int(part) for part in message.split())
        for _ in range(times):
            await self.call.writable()
            self.call.send(bytes(size))

    def on_half_close(self) -> None:
        self.call.finish()


class Join(Echo):
    """Answers a stream of messages with one."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.parts: list[bytes] = []

    def on_message(self, message: bytes) -> None:
        self.parts.append(message)

    def on_half_close(self) -> None:
        self.call.send(b"".join(self.parts))
        self.call.finish()


class Park(Echo):
    """Never answers; tells the test when a call came and when it was cancelled."""

    def __init__(self, call: Call, events: asyncio.Queue[str]) -> None:
        super().__init__(call)
        self.events = events

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        self.events.put_nowait("message")
        return self.wait() if message == b"await" else None

    async def wait(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.events.put_nowait("task cancelled")
            raise

    def on_half_close(self) -> None:
        pass

    def on_cancel(self) -> None:
        self.events.put_nowait("cancelled")


def refuse(_: bytes) -> bytes:
    raise RpcError(StatusCode.FAILED_PRECONDITION, "not on a Tuesday: 100% sûr")


def crash(_: bytes) -> bytes:
    raise LookupError("a secret that must not leave")


async def later(message: bytes) -> bytes:
    await asyncio.sleep(0)
    return message[::-1]


class Metadata(Echo):
    """Answers with the request metadata, one item a message."""

    def on_message(self, message: bytes) -> None:
        for key, value in self.call.metadata:
            self.call.send(f"{key}={value!r}".encode())


def services(parked: asyncio.Queue[str]) -> Services:
    return {
        "/test/Unary": unary(lambda message: message[::-1]),
        "/test/Later": unary(later),
        "/test/Refuse": unary(refuse),
        "/test/Crash": unary(crash),
        "/test/Echo": Echo,
        "/test/SlowEcho": SlowEcho,
        "/test/Count": Count,
        "/test/Join": Join,
        "/test/Metadata": Metadata,
        "/test/Park": lambda call: Park(call, parked),
        **Health().services(),
    }


class Running:
    """A started server, its address, and what its parked calls told."""

    def __init__(self, server: Server, address: str, parked: asyncio.Queue[str]) -> None:
        self.server = server
        self.address = address
        self.parked = parked


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> TransportName:
    name: TransportName = request.param
    return name


@asynccontextmanager
async def running(
    transport: TransportName = "asyncio",
    address: str = "127.0.0.1:0",
    limits: TransportLimits | None = None,
    tls: Tls | None = None,
) -> AsyncIterator[Running]:
    parked: asyncio.Queue[str] = asyncio.Queue()
    server = serve(transport, services(parked), address, limits=limits, tls=tls)
    bound = await server.start()
    try:
        yield Running(server, bound, parked)
    finally:
        await server.close()


@pytest.fixture
def start(transport: TransportName) -> Start:
    def begin(**options: object) -> AbstractAsyncContextManager[Running]:
        return running(transport, **options)  # type: ignore[arg-type]

    return begin
