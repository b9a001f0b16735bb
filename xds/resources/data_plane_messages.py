"""Builders of small messages of `envoy_data_plane`, for the resources that exist once.

`envoy_data_plane` has all messages of Envoy, but its messages are slow. `proto_messages` has the
builders for resources of which a config may have thousands; `of_protos` takes its messages over.
"""

from typing import TypeVar

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from envoy_data_plane.google.protobuf import Any as PackedMessage
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from xds.resources.proto_messages import serialized

Kind = TypeVar("Kind", bound=betterproto2.Message)


def pack(message: betterproto2.Message) -> PackedMessage:
    """A google.protobuf.Any that contains the message."""
    return PackedMessage.pack(message)


def pack_for_protos(message: betterproto2.Message) -> AnyMessage:
    """The same, as a field of a message of `protos`."""
    packed = pack(message)
    return AnyMessage(type_url=packed.type_url, value=packed.value)


def of_protos(kind: type[Kind], message: Message) -> Kind:
    """The same message of `envoy_data_plane`. `kind` is the type of Envoy with its fields."""
    return kind.parse(serialized(message))


def grpc_service(cluster: str, **metadata: str) -> GrpcService:
    """A gRPC service on the endpoints of a cluster, called with this metadata.

    Underscores in the names of metadata stand for hyphens.
    """
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=cluster),
        initial_metadata=[
            HeaderValue(key=name.replace("_", "-"), value=value) for name, value in metadata.items()
        ],
    )
