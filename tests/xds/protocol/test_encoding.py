"""Responses are serialized as DiscoveryResponse messages, and equal resources only once."""

from collections.abc import ItemsView

from protos.discovery_pb2 import DiscoveryResponse
from protos.discovery_pb2 import Resource as ResourceMessage
from xds.protocol import resource_types
from xds.protocol.delta import DeltaResponse
from xds.protocol.encoding import MAX_SERIALIZED, RESOURCE_TYPE_URL, ResponseEncoder
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Changes, Resource, Resources, ResourceSet
from xds.protocol.sotw import SotwResponse


class CountedReads(dict[str, Resource]):
    """Resources that count how often they are read."""

    reads = 0

    def items(self) -> ItemsView[str, Resource]:  # type: ignore[override]
        """Count, and return the resources."""
        self.reads += 1
        return {**self}.items()


def response(each: ResourceType, nonce: str, resources: Resources) -> SotwResponse:
    return SotwResponse(each, ResourceSet.of(resources, "v1").version, nonce, resources)


def test_a_response_has_its_resources_with_their_type() -> None:
    sent = response(resource_types.CLUSTER, "7", {"a": Resource.of(b"1"), "b": Resource.of(b"2")})
    message = DiscoveryResponse.FromString(ResponseEncoder().encode(sent))
    url = resource_types.CLUSTER.url
    assert (message.version_info, message.nonce, message.type_url) == ("v1", "7", url)
    assert [(each.type_url, each.value) for each in message.resources] == [(url, b"1"), (url, b"2")]


def test_a_resource_with_a_ttl_is_in_a_message_of_its_own() -> None:
    sent = response(resource_types.EXTENSION, "1", {"a": Resource.of(b"1", ttl=1.5)})
    message = DiscoveryResponse.FromString(ResponseEncoder().encode(sent))
    assert message.resources[0].type_url == RESOURCE_TYPE_URL
    wrapper = ResourceMessage.FromString(message.resources[0].value)
    assert (wrapper.name, wrapper.resource.value, wrapper.ttl.ToNanoseconds()) == ("a", b"1", 15e8)


def test_the_same_resources_are_serialized_once_for_all_clients() -> None:
    encoder, resources = ResponseEncoder(), CountedReads(a=Resource.of(b"1"), b=Resource.of(b"2"))
    first, second = (
        DiscoveryResponse.FromString(
            encoder.encode(response(resource_types.CLUSTER, nonce, resources))
        )
        for nonce in ("1", "2")
    )
    assert (first.nonce, second.nonce, resources.reads) == ("1", "2", 1)
    assert first.resources == second.resources


def test_other_resources_of_a_type_are_serialized_anew() -> None:
    encoder = ResponseEncoder()
    for bodies in ((b"1", b"2"), (b"3", b"4")):
        resources = {str(n): Resource.of(body) for n, body in enumerate(bodies)}
        encoded = encoder.encode(response(resource_types.CLUSTER, "1", resources))
        message = DiscoveryResponse.FromString(encoded)
        assert tuple(each.value for each in message.resources) == bodies


def test_serialized_changes_of_clients_that_send_no_ack_are_bounded() -> None:
    encoder, version = ResponseEncoder(), ResourceSet.of({}, "v1").version
    kept = [CountedReads(dict.fromkeys("ab", Resource.of(b"1"))) for _ in range(MAX_SERIALIZED + 1)]
    sent = [DeltaResponse(resource_types.CLUSTER, version, "1", Changes(each)) for each in kept]
    for each in (*sent, sent[-1], sent[0]):
        encoder.encode_delta(each)
    assert (kept[0].reads, kept[-1].reads) == (2, 1)
