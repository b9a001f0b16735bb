"""Our copies of Envoy's messages have the same field numbers, types and enum values."""

from collections.abc import Iterator
from enum import IntEnum
from importlib import import_module

import betterproto2
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret
from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)
from envoy_data_plane.envoy.service.ext_proc.v3 import ProcessingRequest, ProcessingResponse
from envoy_data_plane.envoy.service.load_stats.v3 import LoadStatsRequest, LoadStatsResponse
from envoy_data_plane.envoy.service.ratelimit.v3 import RateLimitRequest, RateLimitResponse
from envoy_data_plane.envoy.service.runtime.v3 import Runtime
from envoy_data_plane.envoy.service.status.v3 import ClientStatusRequest, ClientStatusResponse
from envoy_data_plane.message_pool import default_message_pool
from envoy_data_plane.opentelemetry.proto.common.v1 import KeyValue
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from protos import (
    base_pb2,
    client_status_pb2,
    cluster_pb2,
    core_pb2,
    discovery_pb2,
    endpoint_pb2,
    ext_authz_pb2,
    ext_proc_pb2,
    http_filters_pb2,
    load_stats_pb2,
    matcher_pb2,
    otlp_logs_pb2,
    ratelimit_pb2,
    route_pb2,
    runtime_pb2,
    tls_pb2,
)
from xds.resources.proto_messages import PACKED


def message_named(name: str) -> type[betterproto2.Message]:
    """Envoy's message class by the full name of the message."""
    import_module(f"envoy_data_plane.{name.rpartition('.')[0]}")
    message: type[betterproto2.Message] = default_message_pool.url_to_type[
        f"type.googleapis.com/{name}"
    ]
    return message


ROOTS: list[tuple[Descriptor, type[betterproto2.Message]]] = [
    (discovery_pb2.DeltaDiscoveryRequest.DESCRIPTOR, DeltaDiscoveryRequest),
    (discovery_pb2.DeltaDiscoveryResponse.DESCRIPTOR, DeltaDiscoveryResponse),
    (discovery_pb2.DiscoveryRequest.DESCRIPTOR, DiscoveryRequest),
    (discovery_pb2.DiscoveryResponse.DESCRIPTOR, DiscoveryResponse),
    (discovery_pb2.Resource.DESCRIPTOR, Resource),
    (ext_proc_pb2.ProcessingRequest.DESCRIPTOR, ProcessingRequest),
    (ext_proc_pb2.ProcessingResponse.DESCRIPTOR, ProcessingResponse),
    (ext_authz_pb2.CheckRequest.DESCRIPTOR, CheckRequest),
    (ext_authz_pb2.CheckResponse.DESCRIPTOR, CheckResponse),
    (otlp_logs_pb2.LogAttribute.DESCRIPTOR, KeyValue),
    (client_status_pb2.ClientStatusRequest.DESCRIPTOR, ClientStatusRequest),
    (client_status_pb2.ClientStatusResponse.DESCRIPTOR, ClientStatusResponse),
    (load_stats_pb2.LoadStatsRequest.DESCRIPTOR, LoadStatsRequest),
    (load_stats_pb2.LoadStatsResponse.DESCRIPTOR, LoadStatsResponse),
    (ratelimit_pb2.RateLimitRequest.DESCRIPTOR, RateLimitRequest),
    (ratelimit_pb2.RateLimitResponse.DESCRIPTOR, RateLimitResponse),
    (cluster_pb2.Cluster.DESCRIPTOR, Cluster),
    (endpoint_pb2.ClusterLoadAssignment.DESCRIPTOR, ClusterLoadAssignment),
    (route_pb2.RouteConfiguration.DESCRIPTOR, RouteConfiguration),
    *((ours.DESCRIPTOR, message_named(name)) for ours, name in PACKED.items()),
    (runtime_pb2.Runtime.DESCRIPTOR, Runtime),
    (tls_pb2.Secret.DESCRIPTOR, Secret),
]
OURS = (
    base_pb2,
    client_status_pb2,
    cluster_pb2,
    core_pb2,
    discovery_pb2,
    endpoint_pb2,
    ext_authz_pb2,
    ext_proc_pb2,
    http_filters_pb2,
    load_stats_pb2,
    matcher_pb2,
    ratelimit_pb2,
    route_pb2,
    runtime_pb2,
    tls_pb2,
)

Description = tuple[int, str, object, str | None]
Pair = tuple[Descriptor, type[betterproto2.Message]]

TYPES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_MESSAGE: "message",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def our_description(field: FieldDescriptor) -> Description:
    """Number, type, whether it is repeated, and oneof; for a map, the types of key and value."""
    if is_map(field):
        entry = field.message_type.fields_by_name
        return field.number, TYPES[entry["key"].type], TYPES[entry["value"].type], None
    oneof = field.containing_oneof
    group = oneof.name if oneof is not None and not oneof.name.startswith("_") else None
    return field.number, TYPES[field.type], field.is_repeated, group


def envoys_description(theirs: type[betterproto2.Message], name: str) -> Description:
    """The same for the field of Envoy's message."""
    meta = theirs.__dataclass_fields__[name].metadata["betterproto"]
    if meta.map_meta is not None:
        key, value = meta.map_meta
        return meta.number, key.proto_type, value.proto_type, None
    return meta.number, meta.proto_type, meta.repeated, meta.group


def pairs(ours: Descriptor, theirs: type[betterproto2.Message]) -> Iterator[Pair]:
    """A message and all messages that it contains, each once and with Envoy's message."""
    seen, queue = set(), [(ours, theirs)]
    while queue:
        ours, theirs = queue.pop()
        if (ours, theirs) in seen:
            continue
        seen.add((ours, theirs))
        yield ours, theirs
        for field in ours.fields:
            message = field.message_type
            if message is not None and message.full_name.startswith("sluice."):
                target = message.fields_by_name["value"].message_type if is_map(field) else message
                if target is not None and target.full_name.startswith("sluice."):
                    queue.append((target, class_of(theirs, field.name)))


def class_of(theirs: type[betterproto2.Message], field: str) -> type[betterproto2.Message]:
    """The message class of a field of Envoy's message; for a map, the class of its values."""
    classes = theirs()._betterproto.cls_by_field
    message: type[betterproto2.Message] = classes.get(f"{field}.value", classes[field])
    return message


PAIRS = {
    f"{ours.full_name}, {theirs.__module__}.{theirs.__name__}": (ours, theirs)
    for root in ROOTS
    for ours, theirs in pairs(*root)
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_field_has_the_number_and_type_of_envoys_field(name: str) -> None:
    ours, theirs = PAIRS[name]
    for field in ours.fields:
        number, kind, repeated, group = envoys_description(theirs, field.name)
        our_number, our_kind, our_repeated, our_group = our_description(field)
        # An enum as an int32, a message or text as bytes, and a member of a oneof as a plain field
        # have the same wire format.
        kinds = {kind, {"enum": "int32", "message": "bytes", "string": "bytes"}.get(kind, kind)}
        assert (our_number, our_repeated) == (number, repeated), f"{name}.{field.name}"
        assert our_kind in kinds, f"{name}.{field.name}"
        assert our_group in {group, None}, f"{name}.{field.name}"


@pytest.mark.parametrize("name", PAIRS)
def test_every_enum_value_has_the_number_of_envoys_value(name: str) -> None:
    ours, theirs = PAIRS[name]
    for field in ours.fields:
        enum: EnumDescriptor | None = field.enum_type
        if enum is not None:
            envoys_enum = theirs()._betterproto.cls_by_field[field.name]
            assert issubclass(envoys_enum, IntEnum)
            envoys = {value.value: value.name for value in envoys_enum}
            for value in enum.values:
                # betterproto removes the name of the enum from the start of a value name.
                assert value.name.endswith(envoys[value.number].lstrip("_"))


def test_every_message_is_compared() -> None:
    messages = {
        message.full_name
        for module in OURS
        for message in module.DESCRIPTOR.message_types_by_name.values()
    }
    assert messages <= {ours.full_name for ours, _ in PAIRS.values()}
