"""Builders of small messages of `envoy_data_plane`, for the resources that exist once.

`model_messages` has those for routes, clusters and endpoints.
"""

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Pipe,
    SocketAddress,
)
from envoy_data_plane.google.protobuf import Any as PackedMessage

from sluice.config.addresses import split_host_port


def pack(message: betterproto2.Message) -> PackedMessage:
    """A google.protobuf.Any that contains the message."""
    return PackedMessage.pack(message)


def address(text: str) -> Address:
    """The config.core.v3.Address of `host:port` or `unix:/path`."""
    if text.startswith("unix:"):
        return Address(pipe=Pipe(path=text.removeprefix("unix:")))
    host, port = split_host_port(text)
    return socket_address(host, int(port))


def socket_address(host: str, port: int) -> Address:
    """The config.core.v3.Address of a TCP address."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def from_ads() -> ConfigSource:
    """A config source: the ADS stream that carried the resource which contains this message."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


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


def header(name: str, value: str) -> HeaderValueOption:
    """Sets a header and replaces existing values. Envoy adds no header if the value is empty."""
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )
