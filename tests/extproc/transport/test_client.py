"""The gRPC client, against both transports and against misbehaving servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, PingAckReceived, RequestReceived

from extproc.framing import length_prefixed
from extproc.rpc import RpcError, StatusCode
from extproc.transport.aio.client import WINDOW, ClientCall, ClientLimits, open_call
from extproc.transport.http2 import frames
from sluice.version import USER_AGENT

from .conftest import Start

MIB = 1 << 20
LIMITS = ClientLimits()
HEADERS = [(":status", "200"), ("content-type", "application/grpc")]

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@asynccontextmanager
async def calling(
    address: str, method: str, limits: ClientLimits = LIMITS
) -> AsyncIterator[ClientCall]:
    async with asyncio.timeout(60):
        call = await open_call(address, method, limits)
        try:
            yield call
        finally:
            call.close()


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """A TCP server that runs `serve` for each connection."""
    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(MIB)
    assert data, "the client closed the connection"
    return data


async def accept_call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[H2Connection, int]:
    """Wait for a call. Return the server's HTTP/2 connection and the call's stream."""
    http2 = H2Connection(H2Configuration(client_side=False))
    http2.initiate_connection()
    stream = None
    while stream is None:
        for event in http2.receive_data(await read(reader)):
            if isinstance(event, RequestReceived):
                stream = event.stream_id
        writer.write(http2.data_to_send())
    return http2, stream


async def error_of(call: ClientCall) -> RpcError:
    """The status other than OK that ends the call."""
    with pytest.raises(RpcError) as raised:
        await call.receive()
    return raised.value


def test_messages_of_any_size_are_echoed_in_order(start: Start) -> None:
    messages = [bytes(size) for size in (0, 1, 100, 70_000, 3 * MIB, 5)]

    async def test() -> None:
        async with start() as running, calling(running.address, "/test/SlowEcho") as call:
            for message in messages:
                call.send(message)
            assert [await call.receive() for _ in messages] == messages

    asyncio.run(test())


def test_a_call_works_over_a_unix_socket(start: Start, tmp_path: Path) -> None:
    async def test() -> None:
        address = f"unix:{tmp_path}/socket"
        async with start(address=address), calling(address, "/test/Echo") as call:
            call.send(b"hello")
            assert await call.receive() == b"hello"

    asyncio.run(test())


def test_a_call_with_status_ok_ends_after_its_last_message(start: Start) -> None:
    async def test() -> None:
        async with start() as running, calling(running.address, "/test/Reverse") as call:
            call.send(b"abc")
            assert [await call.receive(), await call.receive()] == [b"cba", None]

    asyncio.run(test())


def test_the_client_gets_the_status_and_details_of_a_refused_call(start: Start) -> None:
    async def test() -> None:
        async with start() as running:
            async with calling(running.address, "/test/Refuse") as call:
                call.send(b"")
                error = await error_of(call)
                assert error.code is StatusCode.FAILED_PRECONDITION
                assert error.details == "not on a Tuesday: 100% sûr"
            async with calling(running.address, "/test/Nothing") as call:
                assert (await error_of(call)).code is StatusCode.UNIMPLEMENTED

    asyncio.run(test())


def test_close_cancels_the_call(start: Start) -> None:
    async def test() -> None:
        async with start() as running:
            async with calling(running.address, "/test/Hang") as call:
                call.send(b"")
                assert await running.events.get() == "message"
            assert await running.events.get() == "cancelled"

    asyncio.run(test())


def test_a_message_above_the_limit_ends_the_call(start: Start) -> None:
    async def test() -> None:
        limits = ClientLimits(max_message=1000)
        async with start() as running, calling(running.address, "/test/Echo", limits) as call:
            call.send(bytes(1000))
            assert await call.receive() == bytes(1000)
            call.send(bytes(1001))
            assert (await error_of(call)).code is StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(test())


def test_unsent_messages_are_bounded(start: Start) -> None:
    async def test() -> None:
        limits = ClientLimits(max_unsent=MIB)
        async with start() as running, calling(running.address, "/test/Hang", limits) as call:
            call.send(b"await")  # the handler gets no further message
            for _ in range(64):
                call.send(bytes(MIB // 2))
                await asyncio.sleep(0)
            assert (await error_of(call)).code is StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(test())


def test_the_receive_window_reopens_only_after_messages_are_read() -> None:
    window_closed, window_reopened = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http2, stream = await accept_call(reader, writer)
        http2.send_headers(stream, HEADERS)
        message = length_prefixed(bytes(frames.DEFAULT_FRAME_SIZE - 5))
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
        window_closed.set()
        while http2.local_flow_control_window(stream) < len(message):
            http2.receive_data(await read(reader))
        window_reopened.set()
        writer.close()

    async def test() -> None:
        async with server(serve) as address, calling(address, "/test/Flood") as call:
            await window_closed.wait()
            for _ in range(WINDOW // frames.DEFAULT_FRAME_SIZE):
                assert await call.receive() is not None
            await window_reopened.wait()

    asyncio.run(test())


async def never_respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(MIB):
        pass
    writer.close()


async def close_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(MIB)
    writer.close()


async def send_goaway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, _ = await accept_call(reader, writer)
    http2.close_connection()
    writer.write(http2.data_to_send())
    await never_respond(reader, writer)


async def send_goaway_in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, _ = await accept_call(reader, writer)
    http2.close_connection()
    for byte in http2.data_to_send() + frames.frame(frames.PING, 0, 0, bytes(8)):
        writer.write(bytes([byte]))
        await writer.drain()
    await never_respond(reader, writer)


async def send_goaway_and_ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, _ = await accept_call(reader, writer)
    http2.close_connection()
    writer.write(http2.data_to_send() + frames.frame(frames.PING, 0, 0, bytes(8)))
    await never_respond(reader, writer)


async def send_long_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await accept_call(reader, writer)
    writer.write(frames.frame(frames.DATA, 0, 1, bytes((1 << 14) + 1)))
    await never_respond(reader, writer)


async def reset_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, stream = await accept_call(reader, writer)
    http2.reset_stream(stream)
    writer.write(http2.data_to_send())
    await never_respond(reader, writer)


async def end_without_status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, stream = await accept_call(reader, writer)
    http2.send_headers(stream, HEADERS, end_stream=True)
    writer.write(http2.data_to_send())
    await never_respond(reader, writer)


async def respond_404(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http2, stream = await accept_call(reader, writer)
    http2.send_headers(stream, [(":status", "404")], end_stream=True)
    writer.write(http2.data_to_send())
    await never_respond(reader, writer)


async def send_invalid_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(frames.frame(frames.DATA, 0, 0, b""))
    await never_respond(reader, writer)


@pytest.mark.parametrize(
    ("serve", "details"),
    [
        (close_connection, "connection lost"),
        (send_goaway, "GOAWAY"),
        (send_goaway_and_ping, "GOAWAY"),
        (send_goaway_in_pieces, "GOAWAY"),
        (send_long_frame, "HTTP/2 protocol error"),
        (reset_stream, "reset the stream"),
        (end_without_status, "without a status"),
        (respond_404, "HTTP status 404"),
        (send_invalid_frame, "HTTP/2 protocol error"),
    ],
)
def test_a_call_that_the_server_breaks_ends_with_the_reason(serve: Serve, details: str) -> None:
    async def test() -> None:
        async with server(serve) as address, calling(address, "/test/Echo") as call:
            error = await error_of(call)
            assert error.code in (StatusCode.UNAVAILABLE, StatusCode.INTERNAL)
            assert details in error.details

    asyncio.run(test())


def test_a_call_names_the_product() -> None:
    received: asyncio.Queue[dict[bytes, bytes]] = asyncio.Queue()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http2 = H2Connection(H2Configuration(client_side=False))
        http2.initiate_connection()
        for event in http2.receive_data(await read(reader)):
            if isinstance(event, RequestReceived):
                received.put_nowait(dict(event.headers))
        await never_respond(reader, writer)

    async def test() -> None:
        async with server(record) as address, calling(address, "/test/Echo"):
            headers = await asyncio.wait_for(received.get(), 30)
            assert headers[b"user-agent"].decode() == USER_AGENT

    asyncio.run(test())


def test_a_call_ends_when_the_server_does_not_respond_to_pings() -> None:
    async def test() -> None:
        limits = ClientLimits(keepalive_interval=0.05, keepalive_timeout=0.05)
        async with server(never_respond) as address, calling(address, "/test/Echo", limits) as call:
            assert "keepalive PING" in (await error_of(call)).details

    asyncio.run(test())


def test_a_call_goes_on_while_the_server_responds_to_pings() -> None:
    pings = 3

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http2, stream = await accept_call(reader, writer)
        acknowledged = 0
        while acknowledged < pings:
            http2.receive_data(await read(reader))
            output = http2.data_to_send()
            acknowledged += output.count(frames.KEEPALIVE_PING)
            writer.write(output)
        http2.send_headers(stream, HEADERS)
        http2.send_data(stream, length_prefixed(b"here"))
        writer.write(http2.data_to_send())
        await never_respond(reader, writer)

    async def test() -> None:
        limits = ClientLimits(keepalive_interval=0.02, keepalive_timeout=30)
        async with server(serve) as address, calling(address, "/test/Echo", limits) as call:
            assert await call.receive() == b"here"

    asyncio.run(test())


def test_a_failed_connection_is_an_os_error_and_a_bad_address_a_value_error(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(OSError, match="No such file"):
            await open_call(f"unix:{tmp_path}/no-server", "/test/Echo", LIMITS)
        with pytest.raises(ValueError, match="host:port"):
            await open_call("no-port", "/test/Echo", LIMITS)

    asyncio.run(test())
