"""Clients of every transport variant, in memory and over gRPC, that hold what they accept."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any

from protos.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from protos.discovery_pb2 import Resource as ResourceMessage
from xds.protocol.encoding import RESOURCE_TYPE_URL, ResponseEncoder
from xds.protocol.exchange import Request
from xds.protocol.nodes import Node, Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.server import XdsServer
from xds.protocol.services import DELTA, SERVICES, SOTW, DiscoveryService, Variant
from xds.protocol.snapshot import Resource, Snapshot

TIMEOUT = 60.0


@dataclass(frozen=True)
class Transport:
    """One of the four transport variants, for one type."""

    type: ResourceType
    incremental: bool
    aggregated: bool

    @property
    def service(self) -> DiscoveryService:
        served = None if self.aggregated else self.type
        return next(service for service in SERVICES if service.type is served)

    @property
    def variant(self) -> Variant:
        return DELTA if self.incremental else SOTW

    @property
    def path(self) -> str:
        method = next(n for n, each in self.service.methods.items() if each is self.variant)
        return f"/{self.service.name}/{method}"

    def __str__(self) -> str:
        variant = "delta" if self.incremental else "sotw"
        return f"{self.type.name}-{variant}-{'ads' if self.aggregated else 'separate'}"


@dataclass
class Received:
    """A response: its nonce, its resources and the names of removed ones."""

    nonce: str
    resources: dict[str, bytes]
    removed: set[str] = field(default_factory=set)


class Link(ABC):
    """How messages travel: `send` a request, and wait for the next response."""

    @abstractmethod
    async def send(self, message: Request) -> None: ...

    @abstractmethod
    async def receive(self) -> bytes: ...

    @abstractmethod
    async def close(self) -> None: ...


class MemoryLink(Link):
    """A stream of the protocol without gRPC."""

    def __init__(self, nodes: Nodes, transport: Transport) -> None:
        self._nodes, self._type = nodes, transport.type
        self._exchange = transport.variant.exchange(ResponseEncoder(), transport.aggregated)
        self._node = nodes.connect(self._exchange.stream)
        self.clock = 0.0

    async def send(self, message: Request) -> None:
        if message.HasField("node"):
            self._nodes.identify(self._node, message.node)
        acknowledgement = self._exchange.on_request(self._type, message, 0.0)
        self._nodes.on_request(self._node, self._type, acknowledgement)

    def pump(self) -> list[bytes]:
        """The responses that are due."""
        self._nodes.remove_kept(self._node, self.clock)
        snapshot = self._nodes.snapshot_of(self._node)
        due = [each.encode() for each in self._exchange.responses(snapshot, self.clock)]
        for message in due:
            self._nodes.on_response(self._type, len(message))
        self._nodes.on_responses(self._node)
        return due

    async def receive(self) -> bytes:
        (message,) = self.pump()
        return message

    async def close(self) -> None:
        self._nodes.disconnect(self._node)


class GrpcLink(Link):
    """A call to a server."""

    def __init__(self, channel: grpc.aio.Channel, transport: Transport) -> None:
        self._call = channel.stream_stream(
            transport.path, request_serializer=transport.variant.request.SerializeToString
        )()

    async def send(self, message: Request) -> None:
        await self._call.write(message)

    async def receive(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            message: bytes = await self._call.read()
            return message

    async def close(self) -> None:
        self._call.cancel()
        await self._call.code()


class Client:
    """A client of one type. `resources`: what it has, by name; it accepts responses by `ack`."""

    def __init__(self, link: Link, transport: Transport) -> None:
        self.link = link
        self._transport = transport
        self.resources: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.names: list[str] = []
        self._nonce = ""

    async def start(self, *names: str, versions: dict[str, str] | None = None) -> None:
        """Send the first request. `versions`: what the client has from an earlier stream."""
        self.names = list(names)
        url = self._transport.type.url if self._transport.aggregated else ""
        message = self._transport.variant.request(type_url=url)
        message.node.id = "client"
        if isinstance(message, DeltaDiscoveryRequest):
            message.resource_names_subscribe.extend(names)
            message.initial_resource_versions.update(versions or {})
        else:
            message.resource_names.extend(names)
        await self.link.send(message)

    async def receive(self) -> Received:
        """The next response, which is neither accepted nor rejected yet."""
        content = await self.link.receive()
        if self._transport.incremental:
            delta = DeltaDiscoveryResponse.FromString(content)
            for each in delta.resources:
                assert each.resource.type_url == self._transport.type.url
                self.versions[each.name] = each.version
            bodies = {each.name: each.resource.value for each in delta.resources}
            return Received(delta.nonce, bodies, set(delta.removed_resources))
        response = DiscoveryResponse.FromString(content)
        assert response.type_url == self._transport.type.url
        return Received(response.nonce, dict(map(_named, response.resources)))

    async def ack(self, response: Received) -> None:
        """Take a response into use, and send an ACK."""
        if self._transport.incremental:
            self.resources.update(response.resources)
            for name in response.removed:
                self.resources.pop(name, None)
        else:
            self.resources = response.resources
        await self._answer(response)

    async def nack(self, response: Received, error: str = "no") -> None:
        await self._answer(response, error)

    async def accept(self) -> Received:
        """Receive a response and accept it."""
        response = await self.receive()
        await self.ack(response)
        return response

    async def subscribe(self, *names: str) -> None:
        """Subscribe to more names."""
        self.names += [name for name in names if name not in self.names]
        await self._change(subscribe=names)

    async def unsubscribe(self, *names: str) -> None:
        self.names = [name for name in self.names if name not in names]
        await self._change(unsubscribe=names)

    async def _answer(self, response: Received, error: str | None = None) -> None:
        self._nonce = response.nonce
        message = self._transport.variant.request(
            type_url=self._transport.type.url, response_nonce=response.nonce
        )
        if isinstance(message, DiscoveryRequest):
            message.resource_names.extend(self.names)
        if error is not None:
            message.error_detail.message = error
        await self.link.send(message)

    async def _change(self, subscribe: Sequence[str] = (), unsubscribe: Sequence[str] = ()) -> None:
        if self._transport.incremental:
            request = DeltaDiscoveryRequest(
                type_url=self._transport.type.url,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=unsubscribe,
            )
            await self.link.send(request)
            return
        await self.link.send(
            DiscoveryRequest(
                type_url=self._transport.type.url,
                resource_names=self.names,
                response_nonce=self._nonce,
            )
        )


def _named(resource: Any) -> tuple[str, bytes]:
    """The test's resources contain their names: `name=content`."""
    if resource.type_url == RESOURCE_TYPE_URL:
        wrapper = ResourceMessage.FromString(resource.value)
        return wrapper.name, wrapper.resource.value
    return resource.value.partition(b"=")[0].decode(), resource.value


class World(ABC):
    """A control plane. `publish` sets what it serves of the type."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.nodes = Nodes(lambda: 0.0)

    def publish(self, version: str, ttl: float | None = None, **contents: str) -> Snapshot:
        """Publish resources by name."""
        resources = {
            name: Resource.of(f"{name}={content}".encode(), ttl=ttl)
            for name, content in contents.items()
        }
        snapshot = Snapshot.of({self.transport.type: resources}, version)
        self.nodes.publish(snapshot)
        return snapshot

    @abstractmethod
    def link(self) -> Link: ...

    def client(self) -> Client:
        return Client(self.link(), self.transport)

    @property
    def node(self) -> Node:
        """The only node."""
        (node,) = self.nodes
        return node

    @property
    def pushes(self) -> int:
        """How many responses the control plane has sent."""
        return self.nodes.pushes[self.transport.type]

    async def settled(self) -> None:
        """Wait until the control plane has processed all requests, and no response is due."""
        await self.until(self._is_settled)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition of the control plane holds."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self.nodes.progress.clear()
                await self.nodes.progress.wait()

    def _is_settled(self) -> bool:
        return bool(list(self.nodes)) and self.nodes.all_in_sync([self.transport.type])


class MemoryWorld(World):
    """A control plane without gRPC."""

    def link(self) -> Link:
        self._link = MemoryLink(self.nodes, self.transport)
        return self._link

    async def settled(self) -> None:
        assert self._link.pump() == []
        assert self._is_settled()


class GrpcWorld(World):
    """A control plane with a server."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        super().__init__(transport)
        self._channel = channel

    def link(self) -> Link:
        return GrpcLink(self._channel, self.transport)


@asynccontextmanager
async def world(transport: Transport, directory: Path | None) -> AsyncIterator[World]:
    """A control plane in memory; with a directory for a socket, one with a server."""
    if directory is None:
        yield MemoryWorld(transport)
        return
    address = f"unix:{directory}/xds"
    async with grpc.aio.insecure_channel(address) as channel:
        served = GrpcWorld(transport, channel)
        server = XdsServer(served.nodes, address)
        await server.start()
        try:
            yield served
        finally:
            await server.stop()
