"""Tells operators what each client has of each resource (CSDS, envoy.service.status.v3).

A response has names, versions and states. It has no content, so it has no secret.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from protos.client_status_pb2 import ClientConfig, ClientStatusRequest, ClientStatusResponse
from sluice.contract.paths import CSDS_FETCH, CSDS_SERVICE, CSDS_STREAM
from xds.protocol.client_streams import by_client
from xds.protocol.node_matching import UnsupportedMatcherError, matching
from xds.protocol.nodes import Node, Nodes
from xds.protocol.reflection import Method, ServiceDescription
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Snapshot
from xds.protocol.stopping import until_stopping
from xds.protocol.stream import ResourceState, Stream, TypeState

MAX_RESOURCES: Final = 100_000
"""Resources in one response, which then has about 20 MB."""

MAX_SHARE: Final = 0.1
"""Maximum share of the time that all responses together take."""

MAX_CALLS: Final = 8
"""Calls at a time. A client that takes no response keeps it in memory until its call ends."""

_STATES: Final[
    Mapping[
        ResourceState,
        tuple[ClientConfig.ConfigStatus, ClientConfig.ClientResourceStatus],
    ]
] = {
    ResourceState.ABSENT: (ClientConfig.NOT_SENT, ClientConfig.DOES_NOT_EXIST),
    ResourceState.NOT_SENT: (ClientConfig.NOT_SENT, ClientConfig.REQUESTED),
    ResourceState.SENT: (ClientConfig.STALE, ClientConfig.REQUESTED),
    ResourceState.ACKED: (ClientConfig.SYNCED, ClientConfig.ACKED),
    ResourceState.NACKED: (ClientConfig.ERROR, ClientConfig.NACKED),
}


class _Context(Protocol):
    async def abort(self, code: grpc.StatusCode, details: str) -> None: ...

    async def write(self, message: bytes) -> None: ...

    def add_done_callback(self, callback: Callable[[object], None]) -> None: ...


class _TooLargeError(Exception):
    """The response would have too many resources."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: grpc.StatusCode
    details: str


class ClientStatusService:
    """The gRPC service."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._stopping = asyncio.Event()
        self._turn = asyncio.Lock()
        self._calls = 0

    @property
    def description(self) -> ServiceDescription:
        """What reflection says of the service."""
        messages = ClientStatusRequest, ClientStatusResponse
        methods = {CSDS_STREAM: Method(*messages), CSDS_FETCH: Method(*messages, streams=False)}
        return ServiceDescription(CSDS_SERVICE, methods)

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """The methods of the service."""
        methods = {
            CSDS_STREAM: grpc.stream_stream_rpc_method_handler(self._stream),
            CSDS_FETCH: grpc.unary_unary_rpc_method_handler(self._fetch),
        }
        return grpc.method_handlers_generic_handler(CSDS_SERVICE, methods)

    def stop(self) -> None:
        """End every stream with OK."""
        self._stopping.set()

    async def _begin(self, context: _Context) -> None:
        """Count a call until the client has taken its response."""
        if self._calls >= MAX_CALLS:
            details = f"more than {MAX_CALLS} calls: try again later"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
        self._calls += 1
        context.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self._calls -= 1

    async def _fetch(self, message: bytes, context: _Context) -> bytes:
        await self._begin(context)
        return await self._answer(message, context)

    async def _stream(self, messages: AsyncIterator[bytes], context: _Context) -> None:
        await self._begin(context)
        await until_stopping(self._stopping, self._answer_all(messages, context))

    async def _answer_all(self, messages: AsyncIterator[bytes], context: _Context) -> None:
        async for message in messages:
            answer = self._answer(message, context)
            del message  # The client may send none for long.
            await context.write(await answer)

    async def _answer(self, message: bytes, context: _Context) -> bytes:
        """The response to one request. Responses are made one after the other, with pauses."""
        async with self._turn:
            started = time.thread_time()
            response = await _response(message, self._nodes)
            del message  # Until the client has taken the response, which may be never.
            if isinstance(response, _Refusal):
                await context.abort(response.code, response.details)
            assert isinstance(response, ClientStatusResponse)
            content: bytes = response.SerializeToString()
            await asyncio.sleep((time.thread_time() - started) / MAX_SHARE)
            return content


async def _response(message: bytes, nodes: Nodes) -> ClientStatusResponse | _Refusal:
    """The response to a request. An exception would keep the request, which may be large."""
    invalid, details = grpc.StatusCode.INVALID_ARGUMENT, "not a ClientStatusRequest"
    try:
        request = ClientStatusRequest.FromString(message)
        return await _states(matching(nodes, request.node_matchers), nodes)
    except DecodeError:
        return _Refusal(invalid, details)
    except UnsupportedMatcherError as error:
        return _Refusal(invalid, str(error))
    except _TooLargeError:
        details = f"more than {MAX_RESOURCES} resources: select fewer nodes (node_matchers)"
        return _Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, details)


async def _states(nodes: Sequence[Node], all_nodes: Nodes) -> ClientStatusResponse:
    """The states of these nodes. The event loop continues after each of them."""
    response, left = ClientStatusResponse(), MAX_RESOURCES
    for streams in by_client(nodes):
        first, config = streams[0], response.config.add()
        config.node.id = first.id
        config.node.user_agent_name = first.agent
        config.node.metadata.update(first.metadata)
        for node in streams:
            snapshot = all_nodes.snapshot_of(node)
            for resource_type in node.stream.types:
                left -= _add(config, node.stream, resource_type, snapshot, left)
        await asyncio.sleep(0)
    return response


def _add(
    config: ClientConfig,
    stream: Stream,
    resource_type: ResourceType,
    snapshot: Snapshot,
    maximum: int,
) -> int:
    """Add the resources of one type. Returns how many. Raises _TooLargeError."""
    state, count = stream.types[resource_type], 0
    at = None if state.at is None else _timestamp(state.at)
    for name, version, resource_state in stream.resource_states(resource_type, snapshot):
        count += 1
        if count > maximum:
            raise _TooLargeError
        config_status, client_status = _STATES[resource_state]
        added = config.generic_xds_configs.add(
            type_url=resource_type.url,
            name=name,
            version_info=version,
            last_updated=at,
            config_status=config_status,
            client_status=client_status,
        )
        if resource_state is ResourceState.NACKED:
            _add_error(added, state, at)
    return count


def _add_error(
    config: ClientConfig.GenericXdsConfig, state: TypeState, at: Timestamp | None
) -> None:
    config.error_state.details = state.reason or ""
    if state.nacked is not None:
        config.error_state.version_info = state.nacked.info
    if at is not None:
        config.error_state.last_update_attempt.CopyFrom(at)


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
