"""Small Envoy messages that several resources are made of."""

from datetime import timedelta

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Pipe,
    SocketAddress,
)
from envoy_data_plane.google.protobuf import Any as PackedMessage

from sluice.config.values import split_host_port


def pack(message: betterproto2.Message) -> PackedMessage:
    """A google.protobuf.Any that holds the message."""
    return PackedMessage.pack(message)


def seconds(value: float) -> timedelta:
    """A google.protobuf.Duration, to the microsecond."""
    return timedelta(seconds=value)


def address(text: str) -> Address:
    """config.core.v3.Address of `host:port` or `unix:/path`."""
    if text.startswith("unix:"):
        return Address(pipe=Pipe(path=text.removeprefix("unix:")))
    host, port = split_host_port(text)
    return Address(socket_address=SocketAddress(address=host, port_value=int(port)))


def from_ads() -> ConfigSource:
    """The same ADS stream that the resource itself came by."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def header(name: str, value: str) -> HeaderValueOption:
    """Sets a header, replacing what stands there; Envoy adds none where the value is empty."""
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )
