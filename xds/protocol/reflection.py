"""Health checks and server reflection on the xDS port, for generic gRPC tools.

Reflection describes the services of xDS with the messages of `protos/`. These have other names than
the messages of Envoy, but the same encoding.
"""

import grpc.aio
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from protos import base_pb2, discovery_pb2
from xds.protocol.services import SERVICES, DiscoveryService


def add_health_and_reflection(server: grpc.aio.Server) -> health.aio.HealthServicer:
    """Add both services. Health checks report SERVING only after `report_serving`."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    ours = (service.name for service in SERVICES)
    names = (*ours, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=_descriptors())
    return servicer


async def report_serving(servicer: health.aio.HealthServicer) -> None:
    """Report SERVING for the whole server and for each service of xDS."""
    for service in ("", *(each.name for each in SERVICES)):
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)


def _descriptors() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    ours = (base_pb2, discovery_pb2, health_pb2, reflection_pb2)
    for module in (any_pb2, duration_pb2, struct_pb2, *ours):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for service in SERVICES:
        pool.AddSerializedFile(_file(service).SerializeToString())
    return pool


def _file(service: DiscoveryService) -> descriptor_pb2.FileDescriptorProto:
    package, _, name = service.name.rpartition(".")
    methods = [
        descriptor_pb2.MethodDescriptorProto(
            name=method,
            input_type=f".{variant.request.DESCRIPTOR.full_name}",
            output_type=f".{variant.response.DESCRIPTOR.full_name}",
            client_streaming=True,
            server_streaming=True,
        )
        for method, variant in service.methods.items()
    ]
    return descriptor_pb2.FileDescriptorProto(
        name=f"{service.name.replace('.', '/')}.proto",
        package=package,
        syntax="proto3",
        dependency=[discovery_pb2.DESCRIPTOR.name],
        service=[descriptor_pb2.ServiceDescriptorProto(name=name, method=methods)],
    )
