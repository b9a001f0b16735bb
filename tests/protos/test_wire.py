"""Our cut-down messages are Envoy's on the wire: every field number, type and enum value."""

from collections.abc import Iterator
from enum import IntEnum

import betterproto2
import pytest
from envoy_data_plane.envoy.config.core.v3 import Address
from envoy_data_plane.envoy.data.accesslog.v3 import ResponseFlags
from envoy_data_plane.envoy.service.accesslog.v3 import StreamAccessLogsMessage
from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.envoy.service.ext_proc.v3 import ProcessingRequest, ProcessingResponse
from envoy_data_plane.envoy.service.ratelimit.v3 import RateLimitRequest, RateLimitResponse
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from protos import (
    accesslog_pb2,
    base_pb2,
    discovery_pb2,
    ext_authz_pb2,
    ext_proc_pb2,
    ratelimit_pb2,
)

ROOTS: list[tuple[Descriptor, type[betterproto2.Message]]] = [
    (discovery_pb2.DiscoveryRequest.DESCRIPTOR, DiscoveryRequest),
    (discovery_pb2.DiscoveryResponse.DESCRIPTOR, DiscoveryResponse),
    (ext_proc_pb2.ProcessingRequest.DESCRIPTOR, ProcessingRequest),
    (ext_proc_pb2.ProcessingResponse.DESCRIPTOR, ProcessingResponse),
    (ext_authz_pb2.CheckRequest.DESCRIPTOR, CheckRequest),
    (ext_authz_pb2.CheckResponse.DESCRIPTOR, CheckResponse),
    (accesslog_pb2.StreamAccessLogsMessage.DESCRIPTOR, StreamAccessLogsMessage),
    (accesslog_pb2.LogAddress.DESCRIPTOR, Address),
    (accesslog_pb2.ResponseFlags.DESCRIPTOR, ResponseFlags),
    (ratelimit_pb2.RateLimitRequest.DESCRIPTOR, RateLimitRequest),
    (ratelimit_pb2.RateLimitResponse.DESCRIPTOR, RateLimitResponse),
]
OURS = (accesslog_pb2, base_pb2, discovery_pb2, ext_authz_pb2, ext_proc_pb2, ratelimit_pb2)

Description = tuple[int, str, object, str | None]
Pair = tuple[Descriptor, type[betterproto2.Message]]

TYPES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
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


def described(field: FieldDescriptor) -> Description:
    """Number, type, whether repeated, and the oneof of one of our fields."""
    if is_map(field):
        entry = field.message_type.fields_by_name
        return field.number, TYPES[entry["key"].type], TYPES[entry["value"].type], None
    oneof = field.containing_oneof
    group = oneof.name if oneof is not None and not oneof.name.startswith("_") else None
    return field.number, TYPES[field.type], field.is_repeated, group


def expected(theirs: type[betterproto2.Message], name: str) -> Description:
    """The same of Envoy's field."""
    meta = theirs.__dataclass_fields__[name].metadata["betterproto"]
    if meta.map_meta is not None:
        key, value = meta.map_meta
        return meta.number, key.proto_type, value.proto_type, None
    return meta.number, meta.proto_type, meta.repeated, meta.group


def pairs(ours: Descriptor, theirs: type[betterproto2.Message]) -> Iterator[Pair]:
    """A message and all messages below it, each with its counterpart, once."""
    seen, queue = set(), [(ours, theirs)]
    while queue:
        one, other = queue.pop()
        if one.full_name in seen:
            continue
        seen.add(one.full_name)
        yield one, other
        for field in one.fields:
            message = field.message_type
            if message is not None and message.full_name.startswith("sluice."):
                target = message.fields_by_name["value"].message_type if is_map(field) else message
                if target is not None and target.full_name.startswith("sluice."):
                    queue.append((target, counterpart(other, field.name)))


def counterpart(theirs: type[betterproto2.Message], field: str) -> type[betterproto2.Message]:
    found: type[betterproto2.Message] = theirs()._betterproto.cls_by_field[field]
    return found


ALL_PAIRS = {one.full_name: (one, other) for root in ROOTS for one, other in pairs(*root)}


@pytest.mark.parametrize("name", ALL_PAIRS)
def test_every_field_is_envoys(name: str) -> None:
    ours, theirs = ALL_PAIRS[name]
    for field in ours.fields:
        number, kind, rest, group = expected(theirs, field.name)
        found = described(field)
        # The same on the wire: an enum as an int32, a message as its bytes, and one member of a
        # oneof as a field.
        kinds = {kind, {"enum": "int32", "message": "bytes"}.get(kind, kind)}
        assert (found[0], found[2]) == (number, rest), f"{name}.{field.name}"
        assert found[1] in kinds, f"{name}.{field.name}"
        assert found[3] in {group, None}, f"{name}.{field.name}"


@pytest.mark.parametrize("name", ALL_PAIRS)
def test_every_enum_value_is_envoys(name: str) -> None:
    ours, theirs = ALL_PAIRS[name]
    for field in ours.fields:
        enum: EnumDescriptor | None = field.enum_type
        if enum is not None:
            other = theirs()._betterproto.cls_by_field[field.name]
            assert issubclass(other, IntEnum)
            envoys = {value.value: value.name for value in other}
            for value in enum.values:
                # Where the value's name begins with the enum's, betterproto drops that.
                assert value.name.endswith(envoys[value.number].lstrip("_"))


def test_no_message_of_ours_is_left_out() -> None:
    ours = {
        message.full_name
        for module in OURS
        for message in module.DESCRIPTOR.message_types_by_name.values()
    }
    assert ours <= set(ALL_PAIRS)
