"""Behavior that gRPC clients see, over each transport, on real sockets with grpcio's clients."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.services.health import NOT_SERVING, SERVING, HealthService
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


@pytest.mark.parametrize("method", ["/test/Reverse", "/test/ReverseLater"])
def test_a_unary_method_may_respond_at_once_or_later(start: Start, method: str) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            assert await client.unary_unary(method)(b"abc") == b"cba"
            assert await client.unary_unary(method)(b"") == b""

    asyncio.run(run(test()))


def test_a_synchronous_client_gets_its_response(start: Start) -> None:
    async def test() -> None:
        async with start() as running:

            def call() -> bytes:
                with grpc.insecure_channel(running.address) as client:
                    response: bytes = client.unary_unary("/test/Reverse")(b"abc")
                    return response

            assert await asyncio.to_thread(call) == b"cba"

    asyncio.run(run(test()))


@pytest.mark.parametrize("method", ["/test/Echo", "/test/SlowEcho"])
def test_a_stream_keeps_the_order_of_messages(start: Start, method: str) -> None:
    messages = [b"%d" % number * number for number in range(300)]

    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            responses = client.stream_stream(method)(stream(*messages))
            assert [response async for response in responses] == messages

    asyncio.run(run(test()))


def test_client_streaming_and_server_streaming_methods_are_served(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            join = client.stream_unary("/test/Join")
            assert await join(stream(b"a", b"b", b"c")) == b"abc"
            download = client.unary_stream("/test/Download")
            assert [response async for response in download(b"3 4")] == [bytes(3)] * 4
            assert [response async for response in download(b"3 0")] == []

    asyncio.run(run(test()))


def test_one_connection_carries_a_thousand_concurrent_streams(start: Start) -> None:
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
def test_messages_of_16_mib_are_echoed(start: Start, method: str) -> None:
    message = bytes(range(256)) * (16 * MIB // 256)

    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            responses = client.stream_stream(method)(stream(message, message))
            assert [response == message async for response in responses] == [True, True]

    asyncio.run(run(test()))


def test_a_handler_may_end_its_call_with_any_status(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Refuse")(b"")
            assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert caught.value.details() == "not on a Tuesday: 100% sûr"

    asyncio.run(run(test()))


def test_the_client_gets_only_the_type_of_an_unexpected_exception(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Crash")(b"")
            assert caught.value.code() == grpc.StatusCode.UNKNOWN
            assert caught.value.details() == "LookupError"
            assert await client.unary_unary("/test/Reverse")(b"ab") == b"ba"

    asyncio.run(run(test()))


def test_an_unknown_method_is_unimplemented(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Nothing")(b"")
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(run(test()))


@pytest.mark.parametrize("size", [1001, MIB])
def test_an_oversized_message_ends_its_call_but_not_the_connection(start: Start, size: int) -> None:
    async def test() -> None:
        limits = TransportLimits(max_message=1000)
        async with start(limits=limits) as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Reverse")(bytes(size))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await client.unary_unary("/test/Reverse")(bytes(1000)) == bytes(1000)

    asyncio.run(run(test()))


def test_gzip_requests_are_decompressed(start: Start) -> None:
    async def test() -> None:
        async with (
            start() as running,
            channel(running.address, compression=grpc.Compression.Gzip) as client,
        ):
            message = b"compressible " * 100_000
            assert await client.unary_unary("/test/Reverse")(message) == message[::-1]

    asyncio.run(run(test()))


def test_metadata_arrives_in_order_with_binary_values_decoded(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            sent = (("a", "1"), ("x-bin", b"\0\xff\1"), ("a", "2"))
            responses = client.unary_stream("/test/Metadata")(b"", metadata=sent)
            items = [response async for response in responses]
            ours = [item for item in items if item.startswith((b"a=", b"x-bin="))]
            # grpcio's client moves equal names next to each other.
            assert ours == [b"a='1'", b"a='2'", b"x-bin=b'\\x00\\xff\\x01'"]

    asyncio.run(run(test()))


def test_a_cancelled_call_cancels_its_handler_and_the_handlers_task(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            call = client.stream_stream("/test/Hang")()
            await call.write(b"")
            assert await running.events.get() == "message"
            call.cancel()
            assert await running.events.get() == "cancelled"
            call = client.stream_stream("/test/Hang")()
            await call.write(b"await")
            assert await running.events.get() == "message"
            call.cancel()
            events = {await running.events.get(), await running.events.get()}
            assert events == {"cancelled", "task cancelled"}
            assert await client.unary_unary("/test/Reverse")(b"ab") == b"ba"

    asyncio.run(run(test()))


def test_a_deadline_ends_the_call_and_cancels_its_handler(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary("/test/Hang")(b"await", timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            events = [await running.events.get() for _ in range(3)]
            assert sorted(events) == ["cancelled", "message", "task cancelled"]

    asyncio.run(run(test()))


def test_a_slow_reader_delays_only_its_own_call(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            slow = client.unary_stream("/test/Download")(b"1000000 100")
            assert await slow.read() == bytes(1_000_000)
            for _ in range(20):
                assert await client.unary_unary("/test/Reverse")(b"ab") == b"ba"
            assert running.server.counters.messages_sent < 100
            rest = 0
            while (await slow.read()) is not grpc.aio.EOF:
                rest += 1
            assert rest == 99

    asyncio.run(run(test()))


def test_drain_finishes_open_calls_and_refuses_new_ones(start: Start) -> None:
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
                    await late.unary_unary("/test/Reverse")(b"")
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert not drain.done()
            await call.done_writing()
            assert await call.code() == grpc.StatusCode.OK
            await drain

    asyncio.run(run(test()))


def test_drain_cancels_open_calls_at_its_deadline(start: Start) -> None:
    async def test() -> None:
        async with start() as running, channel(running.address) as client:
            call = client.stream_stream("/test/Hang")()
            await call.write(b"await")
            assert await running.events.get() == "message"
            await running.server.drain(0.1)
            events = {await running.events.get(), await running.events.get()}
            assert events == {"cancelled", "task cancelled"}
            assert await call.code() == grpc.StatusCode.UNAVAILABLE

    asyncio.run(run(test()))


def test_the_file_of_a_unix_socket_is_removed_at_the_end(start: Start, tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "callout.sock"
        async with start(address=f"unix:{path}") as running:
            assert running.address == f"unix:{path}"
            async with channel(running.address) as client:
                assert await client.unary_unary("/test/Reverse")(b"ab") == b"ba"
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
def test_the_error_names_a_bad_address(transport: TransportName, address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        serve(transport, {}, address)


def test_the_health_service_serves_check_and_watch(transport: TransportName) -> None:
    async def test() -> None:
        health = HealthService()
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
