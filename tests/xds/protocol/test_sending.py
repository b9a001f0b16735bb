"""Responses wait for room, so that clients that do not take them cannot fill the memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import grpc
import grpc.aio
import h2.connection

from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from sluice.contract.paths import ADS_METHOD, ADS_SERVICE
from tests.integration.gateway import free_ports
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.sending import SHARES, Sending
from xds.protocol.server import XdsServer
from xds.protocol.snapshot import Resource, Snapshot

SHARE = 1000
MAXIMUM = SHARES * SHARE
LARGE = 1 << 20
"""Bytes that HTTP/2 does not take unless the client reads."""


class Clients:
    """Responses to clients, that are sent until `taken`."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._tasks: list[asyncio.Task[None]] = []
        self.taken: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []

    async def send(self, name: str, address: str, size: int) -> asyncio.Task[None]:
        self.taken[name] = asyncio.Event()
        task = asyncio.create_task(self._send(name, address, size))
        self._tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def _send(self, name: str, address: str, size: int) -> None:
        async with self._sending.room(address, size):
            self.begun.append(name)
            await self.taken[name].wait()

    async def take(self, name: str) -> None:
        self.taken[name].set()
        for _ in range(3):
            await asyncio.sleep(0)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def with_clients(
    test: Callable[[Clients, Sending], Awaitable[None]],
) -> None:
    async def run() -> None:
        sending = Sending(MAXIMUM, small=10)
        clients = Clients(sending)
        await test(clients, sending)
        await clients.leave()
        assert (sending.unsent, sending.waiting) == (0, 0)

    asyncio.run(run())


def test_a_response_waits_until_there_is_room() -> None:
    async def test(clients: Clients, sending: Sending) -> None:
        for number in range(SHARES + 2):
            await clients.send(f"n{number}", f"address {number}", SHARE)
        assert clients.begun == ["n0", "n1", "n2", "n3"]
        assert sending.unsent == MAXIMUM
        await clients.take("n2")
        assert clients.begun[SHARES:] == ["n4"]

    with_clients(test)


def test_clients_of_one_address_leave_room_for_others() -> None:
    async def test(clients: Clients, _: Sending) -> None:
        for number in range(5):
            await clients.send(f"bad{number}", "bad", SHARE)
        await clients.send("good", "good", SHARE)
        assert clients.begun == ["bad0", "good"]

    with_clients(test)


def test_the_client_of_an_address_that_has_waited_longest_is_next() -> None:
    async def test(clients: Clients, _: Sending) -> None:
        for name, size in (("first", 900), ("second", 900), ("third", 100)):
            await clients.send(name, "address", size)
        assert clients.begun == ["first"]
        await clients.take("first")
        assert clients.begun == ["first", "second", "third"]

    with_clients(test)


def test_a_small_response_does_not_wait() -> None:
    async def test(clients: Clients, _: Sending) -> None:
        for number in range(SHARES + 1):
            await clients.send(f"n{number}", f"address {number}", SHARE)
        await clients.send("small", "address 0", 10)
        assert clients.begun[-1] == "small"

    with_clients(test)


def test_a_response_that_is_larger_than_all_room_is_sent() -> None:
    async def test(clients: Clients, _: Sending) -> None:
        await clients.send("other", "other", SHARE)
        await clients.send("large", "address", 10 * MAXIMUM)
        await clients.send("next", "address", SHARE)
        assert clients.begun == ["other", "large"]

    with_clients(test)


def test_a_client_that_leaves_while_it_waits_takes_no_room() -> None:
    async def test(clients: Clients, _: Sending) -> None:
        await clients.send("first", "address", SHARE)
        waiting = await clients.send("left", "address", SHARE)
        await clients.send("third", "address", SHARE)
        waiting.cancel()
        await clients.take("first")
        assert clients.begun == ["first", "third"]

    with_clients(test)


class StuckClient:
    """Requests listeners, and lets the server send nothing but the first 64 KiB."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._http = h2.connection.H2Connection()

    async def request(self) -> None:
        self._http.initiate_connection()
        path = f"/{ADS_SERVICE}/{ADS_METHOD}"
        headers = {":method": "POST", ":scheme": "http", ":authority": "test", ":path": path}
        content = {"te": "trailers", "content-type": "application/grpc"}
        self._http.send_headers(1, [*headers.items(), *content.items()])
        message = DiscoveryRequest(type_url=resource_types.LISTENER.url).SerializeToString()
        self._http.send_data(1, b"\0" + len(message).to_bytes(4) + message)
        self.writer.write(self._http.data_to_send())

    async def closed(self) -> None:
        """Until the server closes the connection."""
        with suppress(ConnectionResetError):
            while received := await self._reader.read(1 << 16):
                self._http.receive_data(received)
                self.writer.write(self._http.data_to_send())


@asynccontextmanager
async def stuck_client(address: str, source: str) -> AsyncIterator[StuckClient]:
    host, _, port = address.rpartition(":")
    client = StuckClient(
        *await asyncio.open_connection(host, int(port), local_addr=(source, 0)),
    )
    await client.request()
    try:
        yield client
    finally:
        client.writer.close()


async def response(address: str) -> DiscoveryResponse:
    """What a client gets that reads."""
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        method = channel.stream_stream(
            f"/{ADS_SERVICE}/{ADS_METHOD}",
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )
        call = method()
        await call.write(DiscoveryRequest(type_url=resource_types.LISTENER.url))
        received: DiscoveryResponse = await call.read()
        return received


def with_server(
    test: Callable[[str, Nodes], Coroutine[None, None, None]], send_timeout: float
) -> None:
    async def run() -> None:
        nodes = Nodes(lambda: 0.0)
        resources = {resource_types.LISTENER: {"a": Resource.of(bytes(LARGE))}}
        nodes.publish(Snapshot.of(resources, "v1"))
        (port,) = free_ports(1)
        address = f"127.0.0.1:{port}"
        sending = Sending(SHARES * LARGE)
        server = XdsServer(nodes, address, sending=sending, send_timeout=send_timeout)
        await server.start()
        try:
            async with asyncio.timeout(60):
                await test(address, nodes)
        finally:
            await server.stop()

    asyncio.run(run())


def test_a_client_that_does_not_take_a_response_loses_its_connection() -> None:
    async def test(address: str, _: Nodes) -> None:
        async with stuck_client(address, "127.0.0.1") as stuck:
            await stuck.closed()
        assert (await response(address)).version_info == "v1"

    with_server(test, send_timeout=0.1)


def test_clients_that_take_nothing_do_not_delay_those_of_another_address() -> None:
    async def test(address: str, nodes: Nodes) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(SHARES + 1):
                await stack.enter_async_context(stuck_client(address, "127.0.0.2"))
            while sum(bool(node.stream.types) for node in nodes) <= SHARES:
                nodes.progress.clear()
                await nodes.progress.wait()
            assert (await response(address)).version_info == "v1"

    with_server(test, send_timeout=3600)
