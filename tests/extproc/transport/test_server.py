"""Sockets, tasks and memory of the asyncio server, tested over real connections."""

import array
import asyncio
import fcntl
import socket
import termios
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import httpx
import pytest
import uvloop

from extproc.framing import length_prefixed
from extproc.memory_budget import MemoryBudget
from extproc.rpc import Call
from extproc.transport import TransportLimits, serve
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.header_blocks import encode_literal

from .conftest import running

MIB = 1024 * 1024
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def request_block(path: bytes) -> bytes:
    """The header block of a gRPC request."""
    content_type = encode_literal(b"content-type", b"application/grpc")
    return b"\x83\x86" + encode_literal(b":path", path) + content_type


def request(stream_id: int, path: bytes, content: bytes, *, end: bool = True) -> bytes:
    """The frames of a gRPC request, half-closed if `end`."""
    headers = frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, request_block(path))
    return headers + frames.frame(frames.DATA, int(end), stream_id, content)


class RawClient:
    """A client that sends raw bytes. It reads only what the test reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: str, settings: dict[int, int] | None = None) -> "RawClient":
        host, port = address.split(":")
        client = cls(*await asyncio.open_connection(host, int(port), limit=MIB))
        client.writer.write(frames.PREFACE + frames.settings(settings or {}))
        return client

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def stop_reading(self) -> None:
        """Stop reading, so that the socket fills up."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def wait_until_processed(self) -> None:
        """Wait until the server has processed everything that was sent before."""
        ping = b"in sync?"
        self.send(frames.frame(frames.PING, 0, 0, ping))
        await self.reader.readuntil(frames.frame(frames.PING, frames.ACK, 0, ping))

    def abort(self) -> None:
        self.writer.transport.abort()


@LOOPS
def test_a_client_that_never_reads_does_not_grow_memory(loop: LoopFactory) -> None:
    async def test() -> None:
        async with running() as server:
            calls = 10
            window = {frames.INITIAL_WINDOW_SIZE: 2**31 - 1}
            client = await RawClient.connect(server.address, window)
            client.stop_reading()
            client.send(frames.window_update(0, 2**31 - 1 - frames.DEFAULT_WINDOW))
            tracemalloc.start()
            for number in range(calls):
                message = length_prefixed(b"100000 10000")
                client.send(request(2 * number + 1, b"/test/Download", message))
            async with asyncio.timeout(60):
                for _ in range(calls):
                    assert await server.events.get() == "blocked"
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # Ten calls of a gigabyte each. The server buffers send_high_water bytes of each call.
            assert held < 16 * MIB
            assert server.server.counters.messages_sent < 1000
            client.abort()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


@LOOPS
def test_a_handler_gets_no_messages_while_its_responses_are_unsent(loop: LoopFactory) -> None:
    async def test() -> None:
        async with running(limits=TransportLimits(connection_window=2**31 - 1)) as server:
            client = await RawClient.connect(server.address)
            client.send(request(1, b"/test/Echo", b"", end=False))
            data_frame = frames.frame(frames.DATA, 0, 1, length_prefixed(bytes(10_000)))
            client.send(data_frame * 104)  # less than the stream's window of 1 MiB
            await client.wait_until_processed()
            # 65,535 bytes fit in the client's window, and send_high_water is 256 KiB.
            assert 32 <= server.server.counters.messages_sent <= 34
            client.abort()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


class Busy:
    """Works for a millisecond on each message, and records the order of all work on the loop."""

    def __init__(self, call: Call, order: list[bytes], first: asyncio.Event | None) -> None:
        self.call = call
        self.order = order
        self.first = first
        """Ends the first message. Meanwhile, the others wait in the buffer of the call."""

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        self.order.append(message)
        if self.first is not None and len(self.order) == 1:
            return self._wait(self.first)
        if message == MESSAGES[1]:
            asyncio.get_running_loop().call_soon(self.order.append, b"other work")
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
        return None

    async def _wait(self, event: asyncio.Event) -> None:
        await event.wait()

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        pass


MESSAGES = [b"%0100d" % number for number in range(300)]


@LOOPS
@pytest.mark.parametrize("frame_size", [105, 105 * 100], ids=["small frames", "large frames"])
@pytest.mark.parametrize("buffered", [False, True])
def test_other_work_runs_between_the_messages_of_one_read(
    loop: LoopFactory, frame_size: int, *, buffered: bool
) -> None:
    async def test() -> None:
        order: list[bytes] = []
        first = asyncio.Event() if buffered else None
        services = {"/test/Busy": lambda call: Busy(call, order, first)}
        server = serve("asyncio", services, "127.0.0.1:0")
        client = await RawClient.connect(await server.start())
        content = b"".join(map(length_prefixed, MESSAGES))
        parts = [content[i : i + frame_size] for i in range(0, len(content), frame_size)]
        data = b"".join(frames.frame(frames.DATA, 0, 1, part) for part in parts)
        client.send(request(1, b"/test/Busy", b"", end=False) + data)
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1, b""))
        if first is not None:
            await client.wait_until_processed()
            first.set()
        await client.reader.readuntil(b"grpc-status")
        assert [message for message in order if message != b"other work"] == MESSAGES
        assert order[-1] != b"other work"
        await server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


@LOOPS
def test_a_lost_connection_cancels_its_calls(loop: LoopFactory) -> None:
    async def test() -> None:
        async with running() as server:
            client = await RawClient.connect(server.address)
            client.send(request(1, b"/test/Hang", length_prefixed(b"await"), end=False))
            assert await server.events.get() == "message"
            client.abort()
            assert {await server.events.get(), await server.events.get()} == {
                "cancelled",
                "task cancelled",
            }
            assert server.server.counters.connections_closed == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


def test_buffered_requests_are_bounded_for_the_whole_server() -> None:
    async def test() -> None:
        async with (
            running(memory=MemoryBudget(100_000)) as server,
            grpc.aio.insecure_channel(server.address) as client,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Reverse")(bytes(200_000))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await client.unary_unary("/test/Reverse")(bytes(50_000)) == bytes(50_000)

    asyncio.run(test())


def test_a_gzip_bomb_is_refused() -> None:
    async def test() -> None:
        async with (
            running(limits=TransportLimits(max_message=100_000)) as server,
            grpc.aio.insecure_channel(server.address, compression=grpc.Compression.Gzip) as client,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Reverse")(bytes(10 * MIB))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(test())


def test_a_request_that_is_not_grpc_gets_an_http_error() -> None:
    async def test() -> None:
        async with running() as server, httpx.AsyncClient(http1=False, http2=True) as client:
            response = await client.get(f"http://{server.address}/")
            assert response.status_code == 405
            assert response.text == "gRPC calls are POST requests\n"
            url = f"http://{server.address}/test/Reverse"
            response = await client.post(url, content=b"x" * 99_999)
            assert response.status_code == 415

    asyncio.run(test())


class Flood:
    """Sends far more bytes than its client reads, without `writable`."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def on_message(self, message: bytes) -> None:
        for _ in range(100):
            self.call.send(bytes(100_000))

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        pass


def test_a_call_above_max_send_queue_is_reset() -> None:
    async def test() -> None:
        limits = TransportLimits(max_send_queue=2 * MIB)
        server = serve("asyncio", {"/test/Flood": Flood}, "127.0.0.1:0", limits=limits)
        client = await RawClient.connect(await server.start())
        client.send(request(1, b"/test/Flood", length_prefixed(b"")))
        reset = frames.rst_stream(1, ErrorCode.ENHANCE_YOUR_CALM)
        await client.reader.readuntil(reset)
        assert server.counters.streams_closed == 1
        await server.close()

    asyncio.run(test())


@LOOPS
def test_the_socket_of_a_peer_on_this_machine_has_room_for_a_large_message(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def test() -> None:
        class Large:
            """Responds with half a MiB."""

            def __init__(self, call: Call) -> None:
                self._call = call

            def on_message(self, message: bytes) -> None:
                self._call.send(bytes(MIB // 2))

            def on_half_close(self) -> None:
                """The response has no end."""

            def on_cancel(self) -> None:
                """Nothing to undo."""

        address = f"unix:{tmp_path}/server"
        server = serve("asyncio", {"/large": Large}, address)
        await server.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address.removeprefix("unix:"))
            default = client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            windows = frames.settings({frames.INITIAL_WINDOW_SIZE: MIB})
            client.sendall(frames.PREFACE + windows + frames.window_update(0, MIB))
            client.sendall(request(1, b"/large", length_prefixed(b""), end=False))
            async with asyncio.timeout(60):
                while _unread(client) < 1.2 * default:  # noqa: ASYNC110  (the kernel tells no one)
                    await asyncio.sleep(0)
        await server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


def _unread(client: socket.socket) -> int:
    """Bytes that have arrived."""
    size = array.array("i", [0])
    fcntl.ioctl(client.fileno(), termios.FIONREAD, size)
    return size[0]
