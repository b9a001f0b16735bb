"""What gRPC clients see, the same over every transport, on real sockets with grpcio's own
clients."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.services.health import NOT_SERVING, SERVING, Health
from extproc.transport import TransportLimits, TransportName, serve

from .conftest import Start

MIB = 1024 * 1024
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def channel(address: str, **options: object) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=UNLIMITED, **options)


async def stream(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def run(test: object) -> None:
    async with asyncio.timeout(60):
        await test  # type: ignore[misc]


@pytest.mark.parametrize("method", ["/test/Unary", "/test/Later"])
def test_a_unary_call_is_answered_at_once_or_later(start: Start, method: str) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            assert await client.unary_unary(method)(b"abc") == b"cba"
            assert await client.unary_unary(method)(b"") == b""

    asyncio.run(run(test()))


def test_a_synchronous_client_is_answered(start: Start) -> None:
    async def test() -> None:
        async with start() as running:

            def call() -> bytes:
                with grpc.insecure_channel(running.address) as client:
                    answer: bytes = client.unary_unary("/test/Unary")(b"abc")
                    return answer

            assert await asyncio.to_thread(call) == b"cba"

    asyncio.run(run(test()))


@pytest.mark.parametrize("method", ["/test/Echo", "/test/SlowEcho"])
def test_a_stream_keeps_its_order_both_ways(start: Start, method: str) -> None:
    messages = [b"%d" % number * number for number in range(300)]

    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            answers = client.stream_stream(method)(stream(*messages))
            assert [answer async for answer in answers] == messages

    asyncio.run(run(test()))


def test_client_and_server_streams(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            join = client.stream_unary("/test/Join")
            assert await join(stream(b"a", b"b", b"c")) == b"abc"
            count = client.unary_stream("/test/Count")
            assert [answer async for answer in count(b"3 4")] == [bytes(3)] * 4
            assert [answer async for answer in count(b"3 0")] == []

    asyncio.run(run(test()))


def test_a_thousand_streams_run_at_once_on_one_connection(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            calls = [client.stream_stream("/test/Echo")() for _ in range(1000)]
            for number, call in enumerate(calls):
                await call.write(b"%d" % number)
            assert [await call.read() for call in calls] == [b"%d" % n for n in range(1000)]
            assert running.server.counters.streams_opened == 1000
            assert running.server.counters.streams_closed == 0
            for call in calls:
                await call.done_writing()
            codes = {await call.code() for call in calls}
            assert codes == {grpc.StatusCode.OK}

    asyncio.run(run(test()))


@pytest.mark.parametrize("method", ["/test/Echo", "/test/SlowEcho"])
def test_messages_of_16_mib_go_both_ways(start: Start, method: str) -> None:
    message = bytes(range(256)) * (16 * MIB // 256)

    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            answers = client.stream_stream(method)(stream(message, message))
            assert [answer == message async for answer in answers] == [True, True]

    asyncio.run(run(test()))


def test_a_handler_ends_its_call_with_its_own_status(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Refuse")(b"")
            assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert caught.value.details() == "not on a Tuesday: 100% sûr"

    asyncio.run(run(test()))


def test_a_crash_tells_the_client_no_more_than_its_kind(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Crash")(b"")
            assert caught.value.code() == grpc.StatusCode.UNKNOWN
            assert caught.value.details() == "LookupError"
            assert await client.unary_unary("/test/Unary")(b"ab") == b"ba"

    asyncio.run(run(test()))


def test_an_unknown_method_is_unimplemented(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Nothing")(b"")
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(run(test()))


@pytest.mark.parametrize("size", [1001, MIB])
def test_an_oversized_message_is_refused_and_the_connection_lives(start: Start, size: int) -> None:
    async def test() -> None:
        limits = TransportLimits(max_message=1000)
        async with start(limits=limits) as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Unary")(bytes(size))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await client.unary_unary("/test/Unary")(bytes(1000)) == bytes(1000)

    asyncio.run(run(test()))


def test_gzip_requests_are_understood(start: Start) -> None:
    async def test() -> None:
        async with (
            start() as running,
            channel(running.address, compression=grpc.Compression.Gzip) as client,
        ):
            message = b"compressible " * 100_000
            assert await client.unary_unary("/test/Unary")(message) == message[::-1]

    asyncio.run(run(test()))


def test_metadata_arrives_in_order_with_binary_values_decoded(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            sent = (("a", "1"), ("x-bin", b"\0\xff\1"), ("a", "2"))
            answers = client.unary_stream("/test/Metadata")(b"", metadata=sent)
            items = [answer async for answer in answers]
            ours = [item for item in items if item.startswith((b"a=", b"x-bin="))]
            # grpcio's client itself puts equal names side by side.
            assert ours == [b"a='1'", b"a='2'", b"x-bin=b'\\x00\\xff\\x01'"]

    asyncio.run(run(test()))


def test_a_cancelled_call_cancels_its_handler_and_what_it_awaits(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            call = client.stream_stream("/test/Park")()
            await call.write(b"")
            assert await running.parked.get() == "message"
            call.cancel()
            assert await running.parked.get() == "cancelled"
            call = client.stream_stream("/test/Park")()
            await call.write(b"await")
            assert await running.parked.get() == "message"
            call.cancel()
            told = {await running.parked.get(), await running.parked.get()}
            assert told == {"cancelled", "task cancelled"}
            assert await client.unary_unary("/test/Unary")(b"ab") == b"ba"

    asyncio.run(run(test()))


def test_a_deadline_ends_the_call_and_its_handler(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Park")(b"await", timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            told = [await running.parked.get() for _ in range(3)]
            assert sorted(told) == ["cancelled", "message", "task cancelled"]

    asyncio.run(run(test()))


def test_a_slow_reader_holds_its_own_call_only(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            slow = client.unary_stream("/test/Count")(b"1000000 100")
            assert await slow.read() == bytes(1_000_000)
            for _ in range(20):
                assert await client.unary_unary("/test/Unary")(b"ab") == b"ba"
            assert running.server.counters.messages_sent < 100
            rest = 0
            while (await slow.read()) is not grpc.aio.EOF:
                rest += 1
            assert rest == 99

    asyncio.run(run(test()))


def test_drain_finishes_what_is_open_and_refuses_what_is_new(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            call = client.stream_stream("/test/Echo")()
            await call.write(b"before")
            assert await call.read() == b"before"
            drain = asyncio.create_task(running.server.drain(30))
            await call.write(b"during")
            assert await call.read() == b"during"
            async with channel(running.address) as late:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await late.unary_unary("/test/Unary")(b"")
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert not drain.done()
            await call.done_writing()
            assert await call.code() == grpc.StatusCode.OK
            await drain

    asyncio.run(run(test()))


def test_drain_cancels_what_is_left_at_its_deadline(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            call = client.stream_stream("/test/Park")()
            await call.write(b"await")
            assert await running.parked.get() == "message"
            await running.server.drain(0.1)
            told = {await running.parked.get(), await running.parked.get()}
            assert told == {"cancelled", "task cancelled"}
            assert await call.code() == grpc.StatusCode.UNAVAILABLE

    asyncio.run(run(test()))


def test_a_unix_socket_serves_and_is_removed(start: Start, tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "callout.sock"
        async with start(address=f"unix:{path}") as running:
            assert running.address == f"unix:{path}"
            async with channel(running.address) as client:
                assert await client.unary_unary("/test/Unary")(b"ab") == b"ba"
        assert not path.exists()

    asyncio.run(run(test()))


def test_an_address_in_use_is_an_os_error(start: Start, transport: TransportName) -> None:
    async def test() -> None:
        async with start() as running:
            second = serve(transport, {}, running.address)
            with pytest.raises(OSError, match=r"listen|in use|address"):
                await second.start()

    asyncio.run(run(test()))


@pytest.mark.parametrize("address", ["", "unix:", "localhost", "localhost:port", ":80", "a:70000"])
def test_a_bad_address_is_named(transport: TransportName, address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        serve(transport, {}, address)


def test_health_is_checked_and_watched(transport: TransportName) -> None:
    async def test() -> None:
        health = Health()
        server = serve(transport, health.services(), "127.0.0.1:0")
        address = await server.start()
        async with channel(address) as client:
            stub = health_pb2_grpc.HealthStub(client)
            request = health_pb2.HealthCheckRequest
            assert (await stub.Check(request())).status == SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Check(request(service="other"))
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
            watch = stub.Watch(request())
            assert (await watch.read()).status == SERVING
            health.set("", NOT_SERVING)
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
        await server.close()

    asyncio.run(run(test()))
