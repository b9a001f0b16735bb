"""Serializes responses. The resources that several clients get are serialized once."""

from typing import Final

from google.protobuf import any_pb2, duration_pb2

from protos.discovery_pb2 import DiscoveryResponse
from protos.discovery_pb2 import Resource as ResourceMessage
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resource, Resources
from xds.protocol.sotw import SotwResponse
from xds.protocol.wire import Parts, field

RESOURCE_TYPE_URL: Final = "type.googleapis.com/envoy.service.discovery.v3.Resource"


class ResponseEncoder:
    """Serializes responses to DiscoveryResponse messages."""

    def __init__(self) -> None:
        self._latest: dict[ResourceType, tuple[Resources, bytes]] = {}
        """The resources of the latest response of each type, also serialized."""

    def encode(self, response: SotwResponse) -> bytes:
        """The serialized response."""
        head = DiscoveryResponse(
            version_info=response.version.info, type_url=response.type.url, nonce=response.nonce
        )
        # In the protobuf encoding, the concatenation of two messages has the fields of both.
        return head.SerializeToString() + self._resources(response.type, response.resources)

    def _resources(self, resource_type: ResourceType, resources: Resources) -> bytes:
        latest = self._latest.get(resource_type)
        if latest is not None and latest[0] is resources:
            return latest[1]
        url = resource_type.url.encode()
        packed = (_packed(url, name, resource) for name, resource in resources.items())
        serialized = b"".join([part for each in packed for part in field(_RESOURCES, *each)])
        if len(resources) > 1:  # one resource is serialized already
            self._latest[resource_type] = resources, serialized
        return serialized


_RESOURCES: Final = 2
"""Field number of DiscoveryResponse.resources."""


def _packed(url: bytes, name: str, resource: Resource) -> Parts:
    """A resource as it is sent: one with a TTL in a message of its own."""
    if resource.ttl is None:
        return _any(url, resource.parts)
    ttl = duration_pb2.Duration()
    ttl.FromNanoseconds(int(resource.ttl * 1e9))
    packed = any_pb2.Any(type_url=url.decode(), value=resource.body)
    wrapper = ResourceMessage(name=name, version=resource.version.hex(), resource=packed, ttl=ttl)
    return _any(RESOURCE_TYPE_URL.encode(), [wrapper.SerializeToString()])


def _any(url: bytes, value: Parts) -> Parts:
    """The serialized google.protobuf.Any."""
    return [*field(1, url), *field(2, *value)]
