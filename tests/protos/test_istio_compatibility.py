"""Our copies of Istio's messages have the fields of Istio's API."""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from protos import istio_mcp_pb2, istio_networking_pb2
from tests.protos.istio_fields import FIELDS

SCALARS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
}


def local_name(full_name: str) -> str:
    return full_name.removeprefix("sluice.istio.")


def kind(field: FieldDescriptor) -> str:
    """The type of a field without the messages around it, as a .proto file may write it."""
    if field.type in SCALARS:
        return SCALARS[field.type]
    type_of = field.enum_type or field.message_type
    name = str(type_of.full_name)
    return name if name.startswith("google.") else str(type_of.name)


def described(field: FieldDescriptor) -> tuple[int, str]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return field.number, f"map<{kind(key)}, {kind(value)}>"
    return field.number, f"repeated {kind(field)}" if field.is_repeated else kind(field)


def parts(message: Descriptor) -> Iterator[tuple[str, dict[str, tuple[int, str]]]]:
    """A message with its fields, and the messages and enums in it."""
    if message.GetOptions().map_entry:
        return
    yield local_name(message.full_name), {f.name: described(f) for f in message.fields}
    for inner in message.nested_types:
        yield from parts(inner)
    for enum in message.enum_types:
        yield local_name(enum.full_name), values(enum)


def values(enum: EnumDescriptor) -> dict[str, tuple[int, str]]:
    return {value.name: (value.number, "") for value in enum.values}


def test_each_field_has_the_number_and_the_type_of_istios_field() -> None:
    ours = {
        name: fields
        for module in (istio_networking_pb2, istio_mcp_pb2)
        for message in module.DESCRIPTOR.message_types_by_name.values()
        for name, fields in parts(message)
    }
    assert {name: fields for name, fields in ours.items() if fields} == FIELDS
