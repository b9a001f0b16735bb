"""A call of ours to a server: to both transports, and to servers that do not behave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, PingAckReceived, RequestReceived

from extproc.framing import frame
from extproc.rpc import RpcError, StatusCode
from extproc.transport.aio.client import WINDOW, ClientCall, ClientLimits, open_call
from extproc.transport.http2 import frames

from .conftest import Start

MIB = 1 << 20
PATIENT = ClientLimits()
HEADERS = [(":status", "200"), ("content-type", "application/grpc")]

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@asynccontextmanager
async def calling(
    address: str, method: str, limits: ClientLimits = PATIENT
) -> AsyncIterator[ClientCall]:
    async with asyncio.timeout(60):
        call = await open_call(address, method, limits)
        try:
            yield call
        finally:
            call.close()


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """A server of raw bytes."""
    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(MIB)
    assert data, "the client has left"
    return data


async def called(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[H2Connection, int]:
    """The server's end of HTTP/2, once a call has come, and the stream of it."""
    http2 = H2Connection(H2Configuration(client_side=False))
    http2.initiate_connection()
    stream = None
    while stream is None:
        for event in http2.receive_data(await read(reader)):
            if isinstance(event, RequestReceived):
                stream = event.stream_id
        writer.write(http2.data_to_send())
    return http2, stream


async def ended(call: ClientCall) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await call.receive()
    return raised.value


def test_messages_of_any_size_go_and_come_in_order(start: Start) -> None:
    messages = [bytes(size) for size in (0, 1, 100, 70_000, 3 * MIB, 5)]

    async def test() -> None:
        async with start() as running, calling(running.address, "/test/SlowEcho") as call:
            for message in messages:
                call.send(message)
            assert [await call.receive() for _ in messages] == messages

    asyncio.run(test())


def test_a_unix_socket_will_do(start: Start, tmp_path: Path) -> None:
    async def test() -> None:
        address = f"unix:{tmp_path}/socket"
        async with start(address=address), calling(address, "/test/Echo") as call:
            call.send(b"hello")
            assert await call.receive() == b"hello"

    asyncio.run(test())


def test_a_call_that_ends_well_ends_after_its_last_message(start: Start) -> None:
    async def test() -> None:
        async with start() as running, calling(running.address, "/test/Unary") as call:
            call.send(b"abc")
            assert [await call.receive(), await call.receive()] == [b"cba", None]

    asyncio.run(test())


def test_why_a_call_is_refused_is_told(start: Start) -> None:
    async def test() -> None:
        async with start() as running:
            async with calling(running.address, "/test/Refuse") as call:
                call.send(b"")
                error = await ended(call)
                assert error.code is StatusCode.FAILED_PRECONDITION
                assert error.details == "not on a Tuesday: 100% sûr"
            async with calling(running.address, "/test/Nothing") as call:
                assert (await ended(call)).code is StatusCode.UNIMPLEMENTED

    asyncio.run(test())


def test_closing_cancels_the_call(start: Start) -> None:
    async def test() -> None:
        async with start() as running:
            async with calling(running.address, "/test/Park") as call:
                call.send(b"")
                assert await running.parked.get() == "message"
            assert await running.parked.get() == "cancelled"

    asyncio.run(test())


def test_a_message_above_the_limit_ends_the_call(start: Start) -> None:
    async def test() -> None:
        limits = ClientLimits(max_message=1000)
        async with start() as running, calling(running.address, "/test/Echo", limits) as call:
            call.send(bytes(1000))
            assert await call.receive() == bytes(1000)
            call.send(bytes(1001))
            assert (await ended(call)).code is StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(test())


def test_messages_for_a_server_that_does_not_read_are_bounded(start: Start) -> None:
    async def test() -> None:
        limits = ClientLimits(max_unsent=MIB)
        async with start() as running, calling(running.address, "/test/Park", limits) as call:
            call.send(b"await")  # the handler takes no further message
            for _ in range(64):
                call.send(bytes(MIB // 2))
                await asyncio.sleep(0)
            assert (await ended(call)).code is StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(test())


def test_a_server_sends_on_only_when_its_messages_are_read() -> None:
    closed, opened = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http2, stream = await called(reader, writer)
        http2.send_headers(stream, HEADERS)
        message = frame(bytes(frames.DEFAULT_FRAME_SIZE - 5))
        sent = 0
        while http2.local_flow_control_window(stream) >= len(message):
            http2.send_data(stream, message)
            sent += len(message)
        assert WINDOW - len(message) < sent <= WINDOW
        http2.ping(b"received")
        writer.write(http2.data_to_send())
        events: list[Event] = []
        while not any(isinstance(event, PingAckReceived) for event in events):
            events = http2.receive_data(await read(reader))
        assert http2.local_flow_control_window(stream) < len(message)
        closed.set()
        while http2.local_flow_control_window(stream) < len(message):
            http2.receive_data(await read(reader))
        opened.set()
        writer.close()

    async def test() -> None:
        async with server(serve) as address, calling(address, "/test/Flood") as call:
            await closed.wait()
            for _ in range(WINDOW // frames.DEFAULT_FRAME_SIZE):
                assert await call.receive() is not None
            await opened.wait()

    asyncio.run(test())


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(MIB):
        pass
    writer.close()


async def farewell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(MIB)
    writer.close()


async def going_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, _ = await called(reader, writer)
    http2.close_connection()
    writer.write(http2.data_to_send())
    await silence(reader, writer)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, stream = await called(reader, writer)
    http2.reset_stream(stream)
    writer.write(http2.data_to_send())
    await silence(reader, writer)


async def no_status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, stream = await called(reader, writer)
    http2.send_headers(stream, HEADERS, end_stream=True)
    writer.write(http2.data_to_send())
    await silence(reader, writer)


async def no_grpc(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, stream = await called(reader, writer)
    http2.send_headers(stream, [(":status", "404")], end_stream=True)
    writer.write(http2.data_to_send())
    await silence(reader, writer)


async def no_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(frames.frame(frames.DATA, 0, 0, b""))
    await silence(reader, writer)


@pytest.mark.parametrize(
    ("serve", "details"),
    [
        (farewell, "lost"),
        (going_away, "going away"),
        (reset, "reset"),
        (no_status, "without a status"),
        (no_grpc, "404"),
        (no_frames, "HTTP/2"),
    ],
)
def test_a_call_ends_with_its_reason_whatever_the_server_does(serve: Serve, details: str) -> None:
    async def test() -> None:
        async with server(serve) as address, calling(address, "/test/Echo") as call:
            error = await ended(call)
            assert error.code in (StatusCode.UNAVAILABLE, StatusCode.INTERNAL)
            assert details in error.details

    asyncio.run(test())


def test_a_server_that_has_gone_without_a_word_is_noticed() -> None:
    async def test() -> None:
        limits = ClientLimits(keepalive_interval=0.05, keepalive_timeout=0.05)
        async with server(silence) as address, calling(address, "/test/Echo", limits) as call:
            assert "silent" in (await ended(call)).details

    asyncio.run(test())


def test_a_server_that_answers_pings_is_waited_for() -> None:
    pings = 3

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http2, stream = await called(reader, writer)
        answered = 0
        while answered < pings:
            http2.receive_data(await read(reader))
            output = http2.data_to_send()
            answered += output.count(b"are you?")
            writer.write(output)
        http2.send_headers(stream, HEADERS)
        http2.send_data(stream, frame(b"here"))
        writer.write(http2.data_to_send())
        await silence(reader, writer)

    async def test() -> None:
        limits = ClientLimits(keepalive_interval=0.02, keepalive_timeout=30)
        async with server(serve) as address, calling(address, "/test/Echo", limits) as call:
            assert await call.receive() == b"here"

    asyncio.run(test())


def test_nobody_there_is_an_os_error(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(OSError, match="No such file"):
            await open_call(f"unix:{tmp_path}/nobody", "/test/Echo", PATIENT)
        with pytest.raises(ValueError, match="host:port"):
            await open_call("nowhere", "/test/Echo", PATIENT)

    asyncio.run(test())
