"""The gRPC server of xDS: reads requests and writes responses, on one port for all services.

`sotw` and `delta` have the rules of the protocol. `nodes` records what each node has accepted.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from xds.protocol.authorization import Authorization
from xds.protocol.connections import client_address, close_connection
from xds.protocol.encoding import ResponseEncoder
from xds.protocol.exchange import Exchange, Request
from xds.protocol.nodes import Node, Nodes
from xds.protocol.receiving import Receiving
from xds.protocol.reflection import (
    ServiceDescription,
    add_health_and_reflection,
    report_serving,
)
from xds.protocol.request_log import RequestLog
from xds.protocol.sending import SEND_TIMEOUT, Sending
from xds.protocol.services import SERVICES, DiscoveryService, Variant
from xds.protocol.shared_names import OverLimitError
from xds.protocol.stopping import until_stopping
from xds.protocol.stream import Acknowledgement

log = logging.getLogger(__name__)

MAX_REQUEST = 16 << 20
"""Maximum bytes of one DiscoveryRequest: room for 100,000 cluster names of at most 127 bytes."""

STOP_GRACE = 1.0
"""Seconds for open streams to end when the server stops. Each stream ends with the status OK, so
that a client reconnects without a warning."""

OPTIONS = (
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

    def peer(self) -> str:
        """The address of the client, with the port."""


@dataclass(frozen=True, slots=True)
class _Method:
    """A method of a service."""

    service: DiscoveryService
    variant: Variant


class Service(Protocol):
    """A gRPC service beside those of xDS."""

    @property
    def description(self) -> ServiceDescription:
        """What reflection says of it."""

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """Its methods."""

    def stop(self) -> None:
        """End every stream with OK. The server stops when the streams have ended."""


class XdsServer:
    """Serves ADS, the services of single types, health checks, reflection and other services.

    All have one address.

    `credentials`: TLS; None for a server without it. `authorization` checks every call; without it,
    everyone may make every call. `sending` bounds the memory of responses. A client that does not
    take a response within `send_timeout` seconds loses its connection. `discovery`: the services of
    xDS. `max_request`: maximum bytes of a request. `options`: more options of gRPC. Raises OSError
    if the address is in use.
    """

    def __init__(
        self,
        nodes: Nodes,
        address: str,
        services: Sequence[Service] = (),
        credentials: grpc.ServerCredentials | None = None,
        authorization: Authorization | None = None,
        *,
        sending: Sending | None = None,
        send_timeout: float = SEND_TIMEOUT,
        discovery: Sequence[DiscoveryService] = SERVICES,
        max_request: int = MAX_REQUEST,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        self._nodes = nodes
        self._sending, self._send_timeout = sending or Sending(), send_timeout
        self._services = services
        self._encoder = ResponseEncoder()
        self._stopping = asyncio.Event()
        self._streams: set[asyncio.Task[object]] = set()
        self._server = grpc.aio.server(
            options=(*OPTIONS, ("grpc.max_receive_message_length", max_request), *options),
            interceptors=(authorization or Receiving(),),
        )
        self._server.add_generic_rpc_handlers(
            (*map(self._handlers, discovery), *(service.handler for service in services))
        )
        self._described = [
            *(each.description for each in discovery),
            *(each.description for each in services),
        ]
        self._health = add_health_and_reflection(self._server, self._described)
        try:
            if credentials is None:
                self._port = self._server.add_insecure_port(address)
            else:
                self._port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen for xDS on {address}") from error

    async def start(self) -> None:
        """Start to listen. Clients wait for the first snapshot."""
        await self._server.start()

    async def report_serving(self) -> None:
        """Report SERVING to health checks."""
        await report_serving(self._health, self._described)

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

    def _handlers(self, service: DiscoveryService) -> grpc.GenericRpcHandler:
        methods = {
            name: grpc.stream_stream_rpc_method_handler(
                partial(self._stream, _Method(service, variant)),
                request_deserializer=variant.request.FromString,
            )
            for name, variant in service.methods.items()
        }
        return grpc.method_handlers_generic_handler(service.name, methods)

    async def _stream(
        self, method: _Method, requests: AsyncIterator[Request], context: Context
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        exchange = method.variant.exchange(self._encoder, method.service.type is None)
        try:
            node = self._nodes.connect(exchange.stream)
        except OverLimitError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return
        try:
            await until_stopping(
                self._stopping,
                self._read(node, exchange, method, requests),
                self._write(node, exchange, context),
            )
        except OverLimitError as error:
            error.__traceback__ = None  # Its frames hold the request.
            log.warning("node %s: %s", node.id, error)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except DecodeError:
            name = method.variant.request.DESCRIPTOR.name
            log.warning("node %s: a request is not a valid %s", node.id, name)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"invalid {name}")
        finally:
            self._nodes.disconnect(node)
            log.info("node %s disconnected", node.id)

    async def _read(
        self,
        node: Node,
        exchange: Exchange,
        method: _Method,
        requests: AsyncIterator[Request],
    ) -> None:
        request_log, identified = RequestLog(node), False
        async for message in requests:
            # A node sends its identity in its first request, and does not change it.
            if message.HasField("node") and not identified:
                identified = True
                self._nodes.identify(node, message.node)
                request_log.connected()
            resource_type = method.service.type_of(message.type_url)
            if resource_type is None:
                request_log.unknown_type(message.type_url)
                continue
            try:
                acknowledgement = exchange.on_request(resource_type, message, self._nodes.now())
            finally:
                del message  # The names in it may take much memory until the next request.
            self._nodes.on_request(node, resource_type, acknowledgement)
            if acknowledgement is Acknowledgement.NACK:
                request_log.rejected(resource_type)

    async def _write(self, node: Node, exchange: Exchange, context: Context) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(exchange.stream.renew_at):
                    await node.wake.wait()
            node.wake.clear()
            await self._respond(node, exchange, context)
            self._nodes.on_responses(node)

    async def _respond(self, node: Node, exchange: Exchange, context: Context) -> None:
        """Send the responses that are due. No variable keeps one of them after it was sent."""
        clock, address = asyncio.get_running_loop().time, client_address(context.peer())
        self._nodes.remove_kept(node, clock())
        for response in exchange.responses(self._nodes.snapshot_of(node), clock()):
            async with self._sending.room(address, response.size):
                message = response.encode()
                self._nodes.on_response(response.type, len(message))
                await self._send(context, message)

    async def _send(self, context: Context, message: bytes) -> None:
        """Raises OverLimitError if the client does not take the response."""
        try:
            async with asyncio.timeout(self._send_timeout):
                await context.write(message)
        except TimeoutError:
            # Without its connection, gRPC drops the response.
            close_connection(context.peer(), self._port)
            raise OverLimitError(
                f"it has not taken a response within {self._send_timeout:g} s"
            ) from None
