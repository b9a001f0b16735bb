"""What the asyncio edge does with sockets, tasks and memory, seen through real connections."""

import asyncio
import tracemalloc

import grpc.aio
import pytest
import uvloop

from extproc.framing import frame as message
from extproc.rpc import Call
from extproc.transport import TransportLimits, serve
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.fields import literal

from .conftest import running

MIB = 1024 * 1024
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def call_block(path: bytes) -> bytes:
    grpc_type = literal(b"content-type", b"application/grpc")
    return b"\x83\x86" + literal(b":path", path) + grpc_type


def call(stream_id: int, path: bytes, content: bytes, *, end: bool = True) -> bytes:
    headers = frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, call_block(path))
    return headers + frames.frame(frames.DATA, int(end), stream_id, content)


class Raw:
    """A client that writes bytes, and reads only when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: str, settings: dict[int, int] | None = None) -> "Raw":
        host, port = address.split(":")
        raw = cls(*await asyncio.open_connection(host, int(port), limit=MIB))
        raw.writer.write(frames.PREFACE + frames.settings(settings or {}))
        return raw


@LOOPS
def test_a_peer_that_never_reads_does_not_grow_memory(loop: object) -> None:
    async def test() -> None:
        async with running() as server:
            window = {frames.INITIAL_WINDOW_SIZE: 2**31 - 1}
            raw = await Raw.connect(server.address, window)
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            raw.writer.write(frames.window_update(0, 2**31 - 1 - frames.DEFAULT_WINDOW))
            tracemalloc.start()
            for stream_id in range(1, 21, 2):
                raw.writer.write(call(stream_id, b"/test/Count", message(b"100000 10000")))
            await _in_sync(server.server)
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # Ten calls of a gigabyte each: what is held is each call's high-water mark.
            assert held < 16 * MIB
            assert server.server.counters.messages_sent < 1000
            raw.writer.transport.abort()

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(test())


async def _in_sync(server: object) -> None:
    """Until the server has stopped sending: its counter no longer moves."""
    before = -1
    while before != (before := server.counters.messages_sent) or before == 0:  # type: ignore[attr-defined]
        for _ in range(200):
            await asyncio.sleep(0.001)


@LOOPS
def test_an_echo_to_a_peer_that_never_reads_stops_reading(loop: object) -> None:
    async def test() -> None:
        async with running(limits=TransportLimits(connection_window=2**31 - 1)) as server:
            raw = await Raw.connect(server.address)
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            raw.writer.write(call(1, b"/test/Echo", b"", end=False))
            one = frames.frame(frames.DATA, 0, 1, message(bytes(10_000)))
            raw.writer.write(one * 104)  # within the stream's window of 1 MiB
            await _in_sync(server.server)
            # 65,535 bytes went to the peer and the high-water mark of 256 KiB waits; no more.
            assert 32 <= server.server.counters.messages_sent <= 34
            raw.writer.transport.abort()

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(test())


@LOOPS
def test_a_lost_connection_cancels_its_calls(loop: object) -> None:
    async def test() -> None:
        async with running() as server:
            raw = await Raw.connect(server.address)
            raw.writer.write(call(1, b"/test/Park", message(b"await"), end=False))
            assert await server.parked.get() == "message"
            raw.writer.transport.abort()
            assert {await server.parked.get(), await server.parked.get()} == {
                "cancelled",
                "task cancelled",
            }
            assert server.server.counters.connections_closed == 1

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(test())


def test_buffered_requests_are_bounded_for_the_whole_server() -> None:
    async def test() -> None:
        async with (
            running(limits=TransportLimits(max_buffered=100_000)) as server,
            grpc.aio.insecure_channel(server.address) as client,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Unary")(bytes(200_000))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await client.unary_unary("/test/Unary")(bytes(50_000)) == bytes(50_000)

    asyncio.run(test())


def test_a_gzip_bomb_is_refused() -> None:
    async def test() -> None:
        async with (
            running(limits=TransportLimits(max_message=100_000)) as server,
            grpc.aio.insecure_channel(server.address, compression=grpc.Compression.Gzip) as client,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Unary")(bytes(10 * MIB))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(test())


def test_what_is_not_grpc_is_told_so() -> None:
    import httpx

    async def test() -> None:
        async with running() as server, httpx.AsyncClient(http1=False, http2=True) as client:
            answer = await client.get(f"http://{server.address}/")
            assert (answer.status_code, answer.text) == (405, "gRPC calls are POST requests\n")
            answer = await client.post(f"http://{server.address}/test/Unary", content=b"x" * 99_999)
            assert answer.status_code == 415

    asyncio.run(test())


class Flood:
    """Sends far more than its peer reads, and waits for nothing."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def on_message(self, message: bytes) -> None:
        for _ in range(100):
            self.call.send(bytes(100_000))

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        pass


def test_a_handler_that_ignores_a_slow_reader_is_ended() -> None:
    async def test() -> None:
        limits = TransportLimits(max_send_queue=2 * MIB)
        server = serve("asyncio", {"/test/Flood": Flood}, "127.0.0.1:0", limits=limits)
        raw = await Raw.connect(await server.start())
        raw.writer.write(call(1, b"/test/Flood", message(b"")))
        calm = frames.rst_stream(1, ErrorCode.ENHANCE_YOUR_CALM)
        await raw.reader.readuntil(calm[3:])
        assert server.counters.streams_closed == 1
        await server.close()

    asyncio.run(test())
