"""Serializes responses. The resources that several clients get are serialized once."""

from typing import Final
from weakref import WeakKeyDictionary

from protos.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from protos.discovery_pb2 import Resource as ResourceMessage
from xds.protocol.delta import DeltaResponse
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Changes, Resource, Resources
from xds.protocol.sotw import SotwResponse
from xds.protocol.wire import Parts, field

RESOURCE_TYPE_URL: Final = "type.googleapis.com/envoy.service.discovery.v3.Resource"

MAX_SERIALIZED: Final = 32
"""Serialized changes that are kept. Most clients get the same. Each client with a subscription of
its own gets others, which last until its ACK."""


class ResponseEncoder:
    """Serializes responses to DiscoveryResponse and DeltaDiscoveryResponse messages."""

    def __init__(self) -> None:
        self._latest: dict[ResourceType, tuple[Resources, bytes]] = {}
        """The resources of the latest response of each type, also serialized."""
        self._changes: WeakKeyDictionary[Changes, bytes] = WeakKeyDictionary()
        """What several clients get of the incremental variant, serialized."""

    def encode(self, response: SotwResponse) -> bytes:
        """The serialized response."""
        head = DiscoveryResponse(
            version_info=response.version.info, type_url=response.type.url, nonce=response.nonce
        )
        # In the protobuf encoding, the concatenation of two messages has the fields of both.
        resources = self._resources(response.type, response.resources)
        return b"".join([head.SerializeToString(), *resources])

    def encode_delta(self, response: DeltaResponse) -> bytes:
        """The serialized response of the incremental variant."""
        head = DeltaDiscoveryResponse(
            system_version_info=response.version.info,
            type_url=response.type.url,
            nonce=response.nonce,
            removed_resources=response.changes.removed,
        )
        changed = self._changed(response.type, response.changes)
        return b"".join([head.SerializeToString(), *changed])

    def _changed(self, resource_type: ResourceType, changes: Changes) -> Parts:
        serialized = self._changes.get(changes)
        if serialized is not None:
            return (serialized,)
        url = _message_url(resource_type)
        named = (_named(url, name, resource) for name, resource in changes.resources.items())
        parts = [part for each in named for part in field(_RESOURCES, *each)]
        if len(changes.resources) < _SHARED:
            return parts
        if len(self._changes) >= MAX_SERIALIZED:
            self._changes.pop(next(iter(self._changes.keys())), None)
        self._changes[changes] = b"".join(parts)
        return (self._changes[changes],)

    def _resources(self, resource_type: ResourceType, resources: Resources) -> Parts:
        latest = self._latest.get(resource_type)
        if latest is not None and latest[0] is resources:
            return (latest[1],)
        url = _message_url(resource_type)
        packed = (_packed(url, name, resource) for name, resource in resources.items())
        parts = [part for each in packed for part in field(_RESOURCES, *each)]
        if len(resources) < _SHARED:
            return parts
        self._latest[resource_type] = resources, b"".join(parts)
        return (self._latest[resource_type][1],)


_SHARED: Final = 2
"""Resources from which on the serialized form is kept. That of one resource, such as a large route
table, is quickly made, and not kept beside its parts."""

_RESOURCES: Final = 2
"""Field number of `resources` in the responses of both variants."""

_RESOURCE: Final = 2
"""Field number of Resource.resource."""


def _message_url(resource_type: ResourceType) -> bytes:
    return (resource_type.message_url or resource_type.url).encode()


def _packed(url: bytes, name: str, resource: Resource) -> Parts:
    """A resource as it is sent: one with a TTL in a message of its own."""
    if resource.ttl is None:
        return _any(url, resource.parts)
    return _any(RESOURCE_TYPE_URL.encode(), _named(url, name, resource))


def _named(url: bytes, name: str, resource: Resource) -> Parts:
    """A resource with its name, its version and its TTL: the message Resource."""
    head = ResourceMessage(name=name, version=resource.version_text)
    if resource.ttl is not None:
        head.ttl.FromNanoseconds(int(resource.ttl * 1e9))
    return [head.SerializeToString(), *field(_RESOURCE, *_any(url, resource.parts))]


def _any(url: bytes, value: Parts) -> Parts:
    """The serialized google.protobuf.Any."""
    return [*field(1, url), *field(2, *value)]
