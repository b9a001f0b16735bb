"""The filter that turns the trailers of a gRPC call into headers, because HTTP/1.1 has no trailers.

The callout frames the gRPC message: the filter's `upgrade_protobuf_to_grpc` does not frame it for
HTTP/2 clients (seen with Envoy 1.40).
"""

from typing import Final

from envoy_data_plane.envoy.extensions.filters.http.grpc_http1_bridge.v3 import Config
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from protos.route_pb2 import Route
from xds.resources import proto_messages
from xds.resources.data_plane_messages import pack

_FILTER: Final = "envoy.filters.http.grpc_http1_bridge"


def bridge_filter() -> HttpFilter:
    """The filter. Envoy omits it from requests whose first route does not enable it.

    It comes after ext_proc, because the callout reads the call's status in these headers.
    """
    return HttpFilter(name=_FILTER, typed_config=pack(Config()), disabled=True)


def enable(route: Route) -> None:
    """Enable the filter for the requests of a route."""
    route.typed_per_filter_config[_FILTER].CopyFrom(proto_messages.enabled())
