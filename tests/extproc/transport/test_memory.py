"""Calls reserve what they buffer, and release it when they no longer need it."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from extproc.framing import length_prefixed
from extproc.memory_budget import MemoryBudget
from extproc.rpc import Call, RpcError, Services, StatusCode
from extproc.transport import TransportLimits, TransportName, serve
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode

from .conftest import Echo, running
from .test_server import RawClient, request

METHOD = "/test/Handler"


class Holder(Echo):
    """Works on a message until `go_on` is set. Responds itself if there is no memory."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.task_cancelled = False

    async def on_message(self, message: bytes) -> None:  # type: ignore[override]
        self.started.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.task_cancelled = True
            raise
        self.call.send(b"done")

    def on_exhausted(self, *, too_large: bool) -> None:
        self.call.send(b"too large" if too_large else b"exhausted")


def holders() -> tuple["asyncio.Queue[Holder]", Services]:
    """The handlers of all calls, and the service that creates them."""
    made: asyncio.Queue[Holder] = asyncio.Queue()

    def create(call: Call) -> Holder:
        handler = Holder(call)
        made.put_nowait(handler)
        return handler

    return made, {METHOD: create}


def test_a_handler_responds_if_there_is_no_memory_for_its_message(transport: TransportName) -> None:
    async def test() -> None:
        memory = MemoryBudget(100_000)
        _, services = holders()
        server = serve(transport, services, "127.0.0.1:0", memory=memory)
        async with grpc.aio.insecure_channel(await server.start()) as client:
            call = client.stream_stream(METHOD)(timeout=10)
            await call.write(bytes(1_000_000))
            assert await call.read() == b"exhausted"
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() == grpc.StatusCode.OK
        assert (memory.used, memory.refused) == (0, 1)
        await server.close()

    asyncio.run(test())


def test_a_handler_responds_if_its_message_is_too_large() -> None:
    async def test() -> None:
        _, services = holders()
        limits = TransportLimits(max_message=100_000)
        server = serve("asyncio", services, "127.0.0.1:0", limits=limits)
        async with grpc.aio.insecure_channel(await server.start()) as client:
            call = client.stream_stream(METHOD)(timeout=10)
            await call.write(bytes(100_001))
            assert await call.read() == b"too large"
        await server.close()

    asyncio.run(test())


def test_the_message_that_a_task_works_on_is_reserved(transport: TransportName) -> None:
    async def test() -> None:
        memory = MemoryBudget(100_000)
        made, services = holders()
        server = serve(transport, services, "127.0.0.1:0", memory=memory)
        async with grpc.aio.insecure_channel(await server.start()) as client:
            one = client.stream_stream(METHOD)(timeout=10)
            await one.write(bytes(60_000))
            first = await made.get()
            await first.started.wait()
            assert memory.used == 60_000
            two = client.stream_stream(METHOD)(timeout=10)
            await two.write(bytes(60_000))
            assert await two.read() == b"exhausted"
            first.go_on.set()
            assert await one.read() == b"done"
            # The handler gets this message only if the memory of the one before is released.
            await one.write(bytes(60_000))
            assert await one.read() == b"done"
            await one.done_writing()
            assert await one.read() is grpc.aio.EOF
            assert memory.used == 0
        await server.close()

    asyncio.run(test())


def test_a_task_is_cancelled_if_the_next_message_of_its_call_has_no_room() -> None:
    async def test() -> None:
        memory = MemoryBudget(50_000)
        made, services = holders()
        server = serve("asyncio", services, "127.0.0.1:0", memory=memory)
        async with grpc.aio.insecure_channel(await server.start()) as client:
            call = client.stream_stream(METHOD)(timeout=10)
            for _ in range(3):
                await call.write(bytes(20_000))
            assert await call.read() == b"exhausted"
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert (await made.get()).task_cancelled
        assert memory.used == 0
        await server.close()

    asyncio.run(test())


def test_empty_messages_for_a_busy_handler_close_the_window() -> None:
    async def test() -> None:
        memory = MemoryBudget(1_000_000)
        limits = TransportLimits(stream_window=65_535)
        async with running(limits=limits, memory=memory) as server:
            client = await RawClient.connect(server.address)
            client.send(request(1, b"/test/Hang", length_prefixed(b"await"), end=False))
            empty = length_prefixed(b"") * 2000
            for _ in range(6):
                client.send(frames.frame(frames.DATA, 0, 1, empty))
            await client.wait_until_processed()
            assert memory.used == 5 + 6 * len(empty)
            client.send(frames.frame(frames.DATA, 0, 1, empty))
            await client.reader.readuntil(frames.rst_stream(1, ErrorCode.FLOW_CONTROL_ERROR))
            assert memory.used == 0

    asyncio.run(test())


class Ends(Echo):
    """Ends its call, or is ended, as the message says."""

    def on_message(self, message: bytes) -> None:
        if message == b"finish":
            self.call.finish()
        elif message == b"RpcError":
            raise RpcError(StatusCode.ABORTED, "")
        elif message == b"error":
            raise LookupError
        else:
            self.call.send(message)


@pytest.fixture
def without_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collector")
@pytest.mark.parametrize(
    "end", ["half-close", "finish", "RpcError", "error", "reset", "incomplete"]
)
def test_a_handler_is_freed_when_its_call_ends(end: str) -> None:
    async def test() -> None:
        made: list[weakref.ref[Ends]] = []

        def create(call: Call) -> Ends:
            handler = Ends(call)
            made.append(weakref.ref(handler))
            return handler

        server = serve("asyncio", {METHOD: create}, "127.0.0.1:0")
        client = await RawClient.connect(await server.start())
        content = length_prefixed(end.encode())
        if end == "incomplete":
            content = content[:-1]
        is_end = end in ("half-close", "incomplete")
        client.send(request(1, METHOD.encode(), content, end=is_end))
        if end == "reset":
            client.send(frames.rst_stream(1, ErrorCode.CANCEL))
        await client.wait_until_processed()
        assert [handler() for handler in made] == [None]
        await server.close()

    asyncio.run(test())
