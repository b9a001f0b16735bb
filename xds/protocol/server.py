"""The gRPC server of ADS: reads requests and writes responses.

`sotw` has the rules of the protocol. `nodes` records what each node has accepted.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from protos.discovery_pb2 import DiscoveryRequest
from sluice.contract.paths import ADS_METHOD, ADS_SERVICE
from xds.protocol.encoding import ResponseEncoder
from xds.protocol.nodes import Node, Nodes
from xds.protocol.reflection import add_health_and_reflection, report_serving
from xds.protocol.request_log import RequestLog
from xds.protocol.resource_types import BY_URL, ResourceType
from xds.protocol.sotw import SotwRequest, SotwStream
from xds.protocol.stream import Acknowledgement
from xds.protocol.subscription import OverLimitError

log = logging.getLogger(__name__)

MAX_REQUEST = 16 << 20
"""Maximum bytes of one DiscoveryRequest: room for 100,000 cluster names of at most 127 bytes."""

STOP_GRACE = 1.0
"""Seconds for open streams to end when the server stops. Each stream ends with the status OK, so
that a client reconnects without a warning."""

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_send_message_length", -1),
    # Allow clients' keepalive pings: Envoy sends one every 10 s. By default, gRPC counts them as
    # abuse and closes the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Detect within 15 s that a client is gone or stopped, so that rollouts stop waiting for it. The
    # server waits for the longer of `keepalive_timeout` and `ping_timeout`, by default a minute.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # Fail if a second control plane is started on the same address.
    ("grpc.so_reuseport", 0),
)


class Context(Protocol):
    """The part of grpc.aio.ServicerContext that the server uses."""

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with a status."""

    async def write(self, message: bytes) -> None:
        """Send a serialized response."""


class Service(Protocol):
    """A gRPC service beside ADS."""

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """Its methods."""

    def stop(self) -> None:
        """End every stream with OK. The server stops when the streams have ended."""


class AdsServer:
    """Serves ADS, health checks, reflection and other services on one address.

    Raises OSError if the address is in use.
    """

    def __init__(self, nodes: Nodes, address: str, services: Sequence[Service] = ()) -> None:
        self._nodes = nodes
        self._services = services
        self._encoder = ResponseEncoder()
        self._stopping = asyncio.Event()
        self._streams: set[asyncio.Task[object]] = set()
        self._server = grpc.aio.server(options=OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=DiscoveryRequest.FromString,
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(ADS_SERVICE, {ADS_METHOD: handler}),
                *(service.handler for service in services),
            )
        )
        self._health = add_health_and_reflection(self._server)
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen for xDS on {address}") from error

    async def start(self) -> None:
        """Start to listen. Clients wait for the first snapshot."""
        await self._server.start()

    async def report_serving(self) -> None:
        """Report SERVING to health checks."""
        await report_serving(self._health)

    async def stop(self) -> None:
        """Report NOT_SERVING to health checks, end every stream, and stop listening."""
        await self._health.enter_graceful_shutdown()
        self._stopping.set()
        for service in self._services:
            service.stop()
        if self._streams:
            # A client that receives GOAWAY first may not read the status of its stream.
            await asyncio.wait(self._streams, timeout=STOP_GRACE)
        await self._server.stop(STOP_GRACE)

    async def _stream(self, requests: AsyncIterator[DiscoveryRequest], context: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        stream = SotwStream()
        try:
            node = self._nodes.connect(stream)
        except OverLimitError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return
        tasks = [
            asyncio.create_task(self._read(node, stream, requests)),
            asyncio.create_task(self._write(node, stream, context)),
            asyncio.create_task(self._stopped()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except OverLimitError as error:
            log.warning("node %s: %s", node.id, error)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except DecodeError:
            log.warning("node %s: a request is not a valid DiscoveryRequest", node.id)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid DiscoveryRequest")
        finally:
            self._nodes.disconnect(node)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            log.info("node %s disconnected", node.id)

    async def _stopped(self) -> None:
        await self._stopping.wait()

    async def _read(
        self, node: Node, stream: SotwStream, requests: AsyncIterator[DiscoveryRequest]
    ) -> None:
        request_log, identified = RequestLog(node), False
        async for message in requests:
            # A node sends its identity in its first request, and does not change it.
            if message.HasField("node") and not identified:
                identified = True
                self._nodes.identify(node, message.node)
                request_log.connected()
            resource_type = BY_URL.get(message.type_url)
            if resource_type is None:
                request_log.unknown_type(message.type_url)
                continue
            request = _request(resource_type, message)
            acknowledgement = stream.on_request(request, self._nodes.now())
            self._nodes.on_request(node, resource_type, acknowledgement)
            if acknowledgement is Acknowledgement.NACK:
                request_log.rejected(resource_type)

    async def _write(self, node: Node, stream: SotwStream, context: Context) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(stream.renew_at):
                    await node.wake.wait()
            node.wake.clear()
            for response in stream.responses(self._nodes.snapshot_of(node), clock()):
                message = self._encoder.encode(response)
                self._nodes.on_response(response.type, len(message))
                await context.write(message)


def _request(resource_type: ResourceType, message: DiscoveryRequest) -> SotwRequest:
    return SotwRequest(
        resource_type,
        message.version_info,
        message.resource_names,
        message.response_nonce,
        message.error_detail.message if message.HasField("error_detail") else None,
    )
