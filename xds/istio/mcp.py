"""The config source of istiod: serves Istio's resources over xDS, as MCP-over-xDS says.

istiod requests about 15 types on one stream, and is ready only after it has a response for each of
them. It accepts every response: it logs an invalid resource, keeps the resource that it had before,
and says nothing. After a connection has ended, it keeps all resources, and connects again.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import grpc

from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from sluice.config.mcp import Mcp
from sluice.contract.paths import ADS_METHOD, ADS_SERVICE
from xds.protocol.encoding import ResponseEncoder
from xds.protocol.exchange import Outgoing, Request, SotwExchange
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import ISTIO, ResourceType
from xds.protocol.sending import Sending
from xds.protocol.server import XdsServer
from xds.protocol.services import DiscoveryService, Variant
from xds.protocol.shared_names import OverLimitError
from xds.protocol.snapshot import Snapshot
from xds.protocol.stream import Acknowledgement, Stream

MAX_STREAMS: Final = 64
"""Concurrent streams. An istiod has one, and a mesh has a few of them."""

MAX_CONNECTIONS: Final = 128
"""Open connections. Each takes a file descriptor, which the servers of Envoys and of operators also
need."""

MAX_CALLS: Final = 16
"""Concurrent calls on one connection, for example of health checks, which wait without an end."""

MAX_REQUEST: Final = 64 << 10
"""Maximum bytes of a request. A request of istiod has no names, and little metadata."""

MAX_UNSENT: Final = 32 << 20
"""Bytes of all large responses that are being sent. Those to Envoys have room of their own."""

MAX_OTHER_TYPES: Final = 256
"""Types without resources that one stream may request."""

MAX_TYPE_URL: Final = 256
"""Maximum characters of the URL of such a type."""

OTHER: Final = ResourceType("", "other", wildcard=True)
"""The types of which the control plane has no resources."""

_SERVED: Final[Mapping[str, ResourceType]] = {each.url: each for each in ISTIO}


def _kind(url: str) -> tuple[str, str]:
    """Group and kind of a type, without the version."""
    group, _, rest = url.partition("/")
    return group, rest.rpartition("/")[2]


_KINDS: Final = frozenset(map(_kind, _SERVED))


def _type_of(url: str) -> ResourceType | None:
    """The type that istiod requests; None for another version of one that is served.

    Without a response, an old istiod does not become ready, instead of having no routes.
    """
    if url not in _SERVED and _kind(url) in _KINDS:
        return None
    return _SERVED.get(url, OTHER)


class McpExchange:
    """A stream of istiod. Types without resources get one empty response each, at once.

    Resources get a response only when a config is in force: an empty one would remove what istiod
    has from an earlier control plane.
    """

    def __init__(self, encoder: ResponseEncoder, aggregated: bool) -> None:
        self._served = SotwExchange(encoder, aggregated)
        self._others: set[str] = set()
        self._asked: list[str] = []

    @property
    def stream(self) -> Stream:
        """See Exchange."""
        return self._served.stream

    def on_request(
        self, resource_type: ResourceType, message: Request, now: float
    ) -> Acknowledgement:
        """See Exchange. Every client subscribes to all resources, so its names mean nothing."""
        assert isinstance(message, DiscoveryRequest)
        if resource_type is not OTHER:
            message.ClearField("resource_names")
            return self._served.on_request(resource_type, message, now)
        url = message.type_url
        if url not in self._others:
            if len(self._others) == MAX_OTHER_TYPES or len(url) > MAX_TYPE_URL:
                limit = f"{MAX_OTHER_TYPES} types of at most {MAX_TYPE_URL} characters"
                raise OverLimitError(f"more than {limit}")
            self._others.add(url)
            self._asked.append(url)
        return Acknowledgement.NONE

    def responses(self, snapshot: Snapshot, clock: float) -> Iterator[Outgoing]:
        """See Exchange."""
        yield from self._served.responses(snapshot, clock)
        while self._asked:
            empty = DiscoveryResponse(type_url=self._asked.pop(0), nonce="empty")
            yield Outgoing(OTHER, 0, partial(_serialized, empty))


def _serialized(response: DiscoveryResponse) -> bytes:
    return response.SerializeToString()


MCP: Final = Variant(DiscoveryRequest, DiscoveryResponse, McpExchange)
ISTIOD_SERVICE: Final = DiscoveryService(ADS_SERVICE, None, {ADS_METHOD: MCP}, _type_of)
"""What istiod calls: ADS in the state-of-the-world variant, with Istio's types only."""


def istiod_server(
    istiods: Nodes, mcp: Mcp, credentials: grpc.ServerCredentials | None = None
) -> XdsServer:
    """The server for istiod. `istiods` has the published resources, and records who has them.

    Raises OSError if the address is in use.
    """
    return XdsServer(
        istiods,
        mcp.address,
        credentials=credentials,
        sending=Sending(MAX_UNSENT),
        discovery=(ISTIOD_SERVICE,),
        max_request=MAX_REQUEST,
        options=(
            ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
            ("grpc.max_concurrent_streams", MAX_CALLS),
        ),
    )
