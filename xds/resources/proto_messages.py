"""Builders of small messages of `protos`, for routes, clusters, endpoints and filters of routes.

A config may have thousands of models, and these messages are much faster than those of
`envoy_data_plane` (`data_plane_messages`), which build the resources that exist once. `protos` has
only the fields that Sluice uses.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from protos import (
    base_pb2,
    cluster_pb2,
    core_pb2,
    http_filters_pb2,
    matcher_pb2,
    route_pb2,
    tls_pb2,
)
from sluice.config.addresses import split_host_port

PACKED: Final[Mapping[type[Message], str]] = {
    cluster_pb2.DnsCluster: "envoy.extensions.clusters.dns.v3.DnsCluster",
    cluster_pb2.LeastRequest: (
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    ),
    cluster_pb2.UpstreamHttpOptions: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    http_filters_pb2.CorsPolicy: "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    http_filters_pb2.ExecuteFilterAction: (
        "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"
    ),
    http_filters_pb2.ExtensionWithMatcherPerRoute: (
        "envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute"
    ),
    http_filters_pb2.HeaderMutationPerRoute: (
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
    ),
    http_filters_pb2.LocalRateLimit: (
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    ),
    http_filters_pb2.RBACPerRoute: "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    http_filters_pb2.SkipFilter: "envoy.extensions.filters.common.matcher.action.v3.SkipFilter",
    matcher_pb2.HttpRequestHeaderMatchInput: "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
    matcher_pb2.Matcher: "xds.type.matcher.v3.Matcher",
    route_pb2.FilterConfig: "envoy.config.route.v3.FilterConfig",
    route_pb2.PreviousHostsPredicate: (
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    ),
    route_pb2.Route: "envoy.config.route.v3.Route",
    route_pb2.RouteList: "envoy.config.route.v3.RouteList",
    tls_pb2.CredentialInjector: (
        "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector"
    ),
    tls_pb2.GenericCredential: "envoy.extensions.http.injected_credentials.generic.v3.Generic",
    tls_pb2.UpstreamTlsContext: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
}
"""Envoy's names of the messages that `pack` accepts. tests/protos compares them with Envoy's."""


def pack(message: Message) -> PackedMessage:
    """A google.protobuf.Any that contains the message, with the type URL of Envoy's message.

    Raises KeyError if `PACKED` does not contain its type.
    """
    return PackedMessage(
        type_url=f"type.googleapis.com/{PACKED[type(message)]}", value=serialized(message)
    )


def extension(name: str, message: Message) -> core_pb2.TypedExtensionConfig:
    """An extension of Envoy with its config, by name."""
    return core_pb2.TypedExtensionConfig(name=name, typed_config=pack(message))


def enabled() -> PackedMessage:
    """The config of a route that enables a filter which the listener disables."""
    return pack(route_pb2.FilterConfig(config=PackedMessage()))


def disabled() -> PackedMessage:
    """The config of a route that disables a filter."""
    return pack(route_pb2.FilterConfig(disabled=True))


def serialized(message: Message) -> bytes:
    """The bytes of a message: equal messages have equal bytes, also if they contain maps."""
    return message.SerializeToString(deterministic=True)


def uint32(value: int) -> UInt32Value:
    """A google.protobuf.UInt32Value."""
    return UInt32Value(value=value)


def boolean(value: bool) -> BoolValue:
    """A google.protobuf.BoolValue."""
    return BoolValue(value=value)


def seconds(value: float) -> timedelta:
    """A google.protobuf.Duration, with a resolution of one microsecond."""
    return timedelta(seconds=value)


def address(text: str) -> core_pb2.Address:
    """The config.core.v3.Address of `host:port` or `unix:/path`."""
    if text.startswith("unix:"):
        return core_pb2.Address(pipe=core_pb2.Pipe(path=text.removeprefix("unix:")))
    host, port = split_host_port(text)
    return socket_address(host, int(port))


def socket_address(host: str, port: int) -> core_pb2.Address:
    """The config.core.v3.Address of a TCP address."""
    return core_pb2.Address(socket_address=core_pb2.SocketAddress(address=host, port_value=port))


def from_ads() -> core_pb2.ConfigSource:
    """A config source: the ADS stream that carried the resource which contains this message."""
    return core_pb2.ConfigSource(
        ads=core_pb2.ConfigSource.AggregatedConfigSource(),
        resource_api_version=core_pb2.ConfigSource.V3,
    )


def header(
    name: str,
    value: str,
    append_action: base_pb2.HeaderValueOption.HeaderAppendAction = (
        base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    ),
) -> base_pb2.HeaderValueOption:
    """Sets a header, and replaces existing values by default.

    Envoy adds no header if the value is empty.
    """
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value), append_action=append_action
    )
