"""Health checks and server reflection on the xDS port, for generic gRPC tools.

Reflection describes the services with the messages of `protos/`. These have other names than
the messages of Envoy, but the same encoding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service. `streams`: whether both sides send any number of messages."""

    request: type[Message]
    response: type[Message]
    streams: bool = True


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """A service, and its methods by name."""

    name: str
    methods: Mapping[str, Method]


def add_health_and_reflection(
    server: grpc.aio.Server, services: Sequence[ServiceDescription]
) -> health.aio.HealthServicer:
    """Add both services. Health checks report SERVING only after `report_serving`."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    ours = (service.name for service in services)
    names = (*ours, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=_descriptors(services))
    return servicer


async def report_serving(
    servicer: health.aio.HealthServicer, services: Sequence[ServiceDescription]
) -> None:
    """Report SERVING for the whole server and for each service."""
    for service in ("", *(each.name for each in services)):
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)


def _descriptors(services: Sequence[ServiceDescription]) -> descriptor_pool.DescriptorPool:
    messages = {
        message.DESCRIPTOR.file
        for service in services
        for method in service.methods.values()
        for message in (method.request, method.response)
    }
    files: dict[str, FileDescriptor] = {}
    for file in (*messages, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        files |= {each.name: each for each in _with_dependencies(file)}
    pool = descriptor_pool.DescriptorPool()
    for file in files.values():
        pool.AddSerializedFile(file.serialized_pb)
    for service in services:
        pool.AddSerializedFile(_file(service).SerializeToString())
    return pool


def _with_dependencies(file: FileDescriptor) -> Iterator[FileDescriptor]:
    """A file after those that it imports."""
    for each in file.dependencies:
        yield from _with_dependencies(each)
    yield file


def _file(service: ServiceDescription) -> descriptor_pb2.FileDescriptorProto:
    package, _, name = service.name.rpartition(".")
    methods = [
        descriptor_pb2.MethodDescriptorProto(
            name=name,
            input_type=f".{method.request.DESCRIPTOR.full_name}",
            output_type=f".{method.response.DESCRIPTOR.full_name}",
            client_streaming=method.streams,
            server_streaming=method.streams,
        )
        for name, method in service.methods.items()
    ]
    imported = {
        message.DESCRIPTOR.file.name
        for method in service.methods.values()
        for message in (method.request, method.response)
    }
    return descriptor_pb2.FileDescriptorProto(
        name=f"{service.name.replace('.', '/')}.proto",
        package=package,
        syntax="proto3",
        dependency=sorted(imported),
        service=[descriptor_pb2.ServiceDescriptorProto(name=name, method=methods)],
    )
