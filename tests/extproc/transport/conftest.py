"""Servers with a small set of services, over each transport, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from extproc.memory_budget import MemoryBudget
from extproc.rpc import Call, RpcError, Services, StatusCode, unary
from extproc.services.health import HealthService
from extproc.transport import TRANSPORTS, Server, Tls, TransportLimits, TransportName, serve


class Echo:
    """Sends every message back at once, and ends the call when the client half-closes."""

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


class Download(Echo):
    """For a message "size times", sends that many messages of that size, as the client reads."""

    def __init__(self, call: Call, events: "asyncio.Queue[str]") -> None:
        super().__init__(call)
        self.events = events

    async def on_message(self, message: bytes) -> None:  # type: ignore[override]
        size, times = (int(part) for part in message.split())
        for _ in range(times):
            await self._wait_until_writable()
            self.call.send(bytes(size))

    async def _wait_until_writable(self) -> None:
        writable = asyncio.ensure_future(self.call.writable())
        await asyncio.sleep(0)  # the task runs once
        if not writable.done():
            self.events.put_nowait("blocked")
        await writable


class Join(Echo):
    """Responds to a stream of messages with one message."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.parts: list[bytes] = []

    def on_message(self, message: bytes) -> None:
        self.parts.append(message)

    def on_half_close(self) -> None:
        self.call.send(b"".join(self.parts))
        self.call.finish()


class Hang(Echo):
    """Never responds; reports its messages and its cancellation as events."""

    def __init__(self, call: Call, events: "asyncio.Queue[str]") -> None:
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
    raise LookupError("a secret that must not leak")


async def reverse_later(message: bytes) -> bytes:
    await asyncio.sleep(0)
    return message[::-1]


class Metadata(Echo):
    """Responds with the request metadata, one item in each message."""

    def on_message(self, message: bytes) -> None:
        for key, value in self.call.metadata:
            self.call.send(f"{key}={value!r}".encode())


def services(events: "asyncio.Queue[str]") -> Services:
    return {
        "/test/Reverse": unary(lambda message: message[::-1]),
        "/test/ReverseLater": unary(reverse_later),
        "/test/Refuse": unary(refuse),
        "/test/Crash": unary(crash),
        "/test/Echo": Echo,
        "/test/SlowEcho": SlowEcho,
        "/test/Download": lambda call: Download(call, events),
        "/test/Join": Join,
        "/test/Metadata": Metadata,
        "/test/Hang": lambda call: Hang(call, events),
        **HealthService().services(),
    }


class Running:
    """A started server, its address, and the events that its handlers report."""

    def __init__(self, server: Server, address: str, events: "asyncio.Queue[str]") -> None:
        self.server = server
        self.address = address
        self.events = events


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
    memory: MemoryBudget | None = None,
) -> AsyncIterator[Running]:
    events: asyncio.Queue[str] = asyncio.Queue()
    server = serve(transport, services(events), address, limits=limits, tls=tls, memory=memory)
    bound = await server.start()
    try:
        yield Running(server, bound, events)
    finally:
        await server.close()


@pytest.fixture
def start(transport: TransportName) -> Start:
    """Starts a server over the transport of the test."""

    def begin(**options: object) -> AbstractAsyncContextManager[Running]:
        return running(transport, **options)  # type: ignore[arg-type]

    return begin
