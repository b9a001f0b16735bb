"""Reads the requests and writes the responses of a stream, in the messages of its variant."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from protos.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from xds.protocol.delta import DeltaRequest, DeltaStream
from xds.protocol.encoding import ResponseEncoder
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resource, Snapshot
from xds.protocol.sotw import SotwRequest, SotwStream
from xds.protocol.stream import Acknowledgement, Stream

Request: TypeAlias = DiscoveryRequest | DeltaDiscoveryRequest


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A response to send. `size`: about its bytes. `encode` serializes it."""

    type: ResourceType
    size: int
    encode: Callable[[], bytes]


class Exchange(Protocol):
    """One stream of one variant."""

    @property
    def stream(self) -> Stream:
        """The state of the stream."""

    def on_request(
        self, resource_type: ResourceType, message: Request, now: float
    ) -> Acknowledgement:
        """Process a request. Raises OverLimitError if it exceeds a limit."""

    def responses(self, snapshot: Snapshot, clock: float) -> Iterator[Outgoing]:
        """The responses that are due. Taking a response records it as sent."""


class SotwExchange:
    """A stream of the state-of-the-world variant."""

    def __init__(self, encoder: ResponseEncoder, aggregated: bool) -> None:
        self.stream = SotwStream(aggregated)
        self._encoder = encoder

    def on_request(
        self, resource_type: ResourceType, message: Request, now: float
    ) -> Acknowledgement:
        """See Exchange."""
        assert isinstance(message, DiscoveryRequest)
        request = SotwRequest(
            resource_type,
            message.version_info,
            message.resource_names,
            message.response_nonce,
            _error(message),
        )
        return self.stream.on_request(request, now)

    def responses(self, snapshot: Snapshot, clock: float) -> Iterator[Outgoing]:
        """See Exchange."""
        for response in self.stream.responses(snapshot, clock):
            size = sum(map(_size, response.resources.values()))
            yield Outgoing(response.type, size, partial(self._encoder.encode, response))


class DeltaExchange:
    """A stream of the incremental variant."""

    def __init__(self, encoder: ResponseEncoder, aggregated: bool) -> None:
        self.stream = DeltaStream(aggregated)
        self._encoder = encoder

    def on_request(
        self, resource_type: ResourceType, message: Request, now: float
    ) -> Acknowledgement:
        """See Exchange."""
        assert isinstance(message, DeltaDiscoveryRequest)
        request = DeltaRequest(
            resource_type,
            message.resource_names_subscribe,
            message.resource_names_unsubscribe,
            message.response_nonce,
            _error(message),
            message.initial_resource_versions,
        )
        return self.stream.on_request(request, now)

    def responses(self, snapshot: Snapshot, clock: float) -> Iterator[Outgoing]:
        """See Exchange."""
        for response in self.stream.responses(snapshot, clock):
            size = sum(map(_size, response.changes.resources.values()))
            yield Outgoing(response.type, size, partial(self._encoder.encode_delta, response))


def _error(message: Request) -> str | None:
    return message.error_detail.message if message.HasField("error_detail") else None


def _size(resource: Resource) -> int:
    return sum(map(len, resource.parts))
