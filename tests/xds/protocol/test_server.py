"""The server of ADS, with a client that sends what Envoy would not send."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import grpc.aio
import h2.connection
import pytest

from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from protos.discovery_pb2 import Resource as DiscoveryResource
from sluice.contract.paths import ADS_METHOD, ADS_SERVICE
from xds.protocol import request_log, resource_types, server
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.protocol.snapshot import Resource, Snapshot


def identified(text: str, type_url: str = resource_types.LISTENER.url) -> DiscoveryRequest:
    message = DiscoveryRequest(type_url=type_url)
    message.node.id = text
    return message


async def send(directory: Path, messages: Iterable[bytes], nacks: int = 0) -> grpc.StatusCode:
    """Sends messages, then NACKs of all responses and a request after each. Returns the status."""
    nodes = Nodes(time.time)
    resources = {resource_types.LISTENER: {"a": Resource.of(b"listener")}}
    nodes.publish(Snapshot.of(resources, "v1"))
    address = f"unix:{directory}/xds"
    server = XdsServer(nodes, address)
    await server.start()
    responses: asyncio.Queue[DiscoveryResponse] = asyncio.Queue()

    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            yield message
        for _ in range(nacks):
            response = await responses.get()
            nack = DiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            nack.error_detail.message = "no"
            yield nack.SerializeToString()
            nack.ClearField("error_detail")
            yield nack.SerializeToString()

    try:
        async with grpc.aio.insecure_channel(address) as channel:
            method = channel.stream_stream(
                f"/{ADS_SERVICE}/{ADS_METHOD}",
                response_deserializer=DiscoveryResponse.FromString,
            )
            call = method(requests())
            async with asyncio.timeout(60):
                try:
                    async for response in call:
                        responses.put_nowait(response)
                except grpc.aio.AioRpcError:
                    pass
                return await call.code()
    finally:
        await server.stop()


def lines(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_a_node_identifies_itself_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    messages = [identified(f"node-{number}").SerializeToString() for number in range(50)]
    asyncio.run(send(tmp_path, messages))
    assert lines(caplog, " connected") == 1
    assert lines(caplog, "node-0 disconnected") == 1


def test_few_unknown_types_of_a_node_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [DiscoveryRequest(type_url=f"t{n}").SerializeToString() for n in range(50)]
    asyncio.run(send(tmp_path, messages))
    assert lines(caplog, "unknown type") == request_log.MAX_UNKNOWN_TYPES


def test_a_node_that_rejects_a_version_again_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(send(tmp_path, [identified("n").SerializeToString()], nacks=20))
    assert lines(caplog, "rejected listener") == 1


def test_a_request_that_is_not_protobuf_ends_the_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert asyncio.run(send(tmp_path, [b"\xff"])) is grpc.StatusCode.INVALID_ARGUMENT
    assert not any(record.exc_info for record in caplog.records)


def test_a_stop_ends_each_stream_with_ok(tmp_path: Path) -> None:
    """Envoy logs any other status of its stream as a warning."""

    async def status_after_stop() -> grpc.StatusCode:
        nodes = Nodes(time.time)
        address = f"unix:{tmp_path}/xds"
        ads = XdsServer(nodes, address)
        await ads.start()
        async with grpc.aio.insecure_channel(address) as channel:
            method = channel.stream_stream(f"/{ADS_SERVICE}/{ADS_METHOD}")
            call = method()
            await call.write(identified("node").SerializeToString())
            async with asyncio.timeout(60):
                while not any(node.id == "node" for node in nodes):
                    nodes.progress.clear()
                    await nodes.progress.wait()
                await ads.stop()
                status: grpc.StatusCode = await call.code()
                return status

    assert asyncio.run(status_after_stop()) is grpc.StatusCode.OK


async def open_stream(address: str) -> asyncio.StreamWriter:
    """Opens a stream, and then neither reads nor sends, as a process that is stopped."""
    _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    client = h2.connection.H2Connection()
    client.initiate_connection()
    path = f"/{ADS_SERVICE}/{ADS_METHOD}"
    client.send_headers(
        1,
        [
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a"),
            ("content-type", "application/grpc"), ("te", "trailers"),
        ],
    )  # fmt: skip
    writer.write(client.data_to_send())
    return writer


def test_a_client_that_is_stopped_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel keeps the connections of a stopped process open."""
    faster = {n: v // 50 if n.endswith("_ms") else v for n, v in server.OPTIONS}
    monkeypatch.setattr(server, "OPTIONS", tuple(faster.items()))

    async def until_disconnected() -> None:
        address, nodes = f"unix:{tmp_path}/xds", Nodes(time.time)
        ads = XdsServer(nodes, address)
        await ads.start()
        stopped = await open_stream(address)
        try:
            async with asyncio.timeout(60):
                await nodes.progress.wait()  # set by a request or by the end of a stream
        finally:
            stopped.close()
            await ads.stop()
        assert list(nodes) == []

    asyncio.run(until_disconnected())


async def first_response(directory: Path, resources: dict[str, Resource]) -> DiscoveryResponse:
    """What a client gets that requests listeners."""
    nodes = Nodes(time.time)
    nodes.publish(Snapshot.of({resource_types.LISTENER: resources}, "v1"))
    address = f"unix:{directory}/xds"
    server = XdsServer(nodes, address)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            method = channel.stream_stream(
                f"/{ADS_SERVICE}/{ADS_METHOD}",
                request_serializer=DiscoveryRequest.SerializeToString,
                response_deserializer=DiscoveryResponse.FromString,
            )
            call = method()
            await call.write(identified("node"))
            response: DiscoveryResponse = await call.read()
            return response
    finally:
        await server.stop()


def test_a_resource_with_a_ttl_is_sent_in_a_message_that_has_the_ttl(tmp_path: Path) -> None:
    resources = {"a": Resource.of(b"plain"), "b": Resource.of(b"expires", ttl=1.5)}
    plain, wrapped = asyncio.run(first_response(tmp_path, resources)).resources
    assert (plain.type_url, plain.value) == (resource_types.LISTENER.url, b"plain")
    assert wrapped.type_url == "type.googleapis.com/envoy.service.discovery.v3.Resource"
    message = DiscoveryResource.FromString(wrapped.value)
    assert message.name == "b"
    assert (message.resource.type_url, message.resource.value) == (
        resource_types.LISTENER.url,
        b"expires",
    )
    assert message.ttl.ToMilliseconds() == 1500
