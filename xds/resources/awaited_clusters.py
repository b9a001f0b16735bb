"""The filter that holds a request until the Envoy has the cluster of the request.

Envoy's main thread accepts a new cluster, and then tells the threads that serve requests. On a busy
machine, a worker of the callout may have the new policy before such a thread has the cluster. The
thread then asks the main thread (on-demand CDS), whose response comes after the cluster.

If the main thread does not have the cluster either, it asks the control plane: a rollout goes on
without an Envoy that does not respond within `control_plane.ack_timeout`.
"""

from typing import Final

from envoy_data_plane.envoy.config.core.v3 import (
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    ConfigSource,
)
from envoy_data_plane.envoy.extensions.filters.http.on_demand.v3 import OnDemand, OnDemandCds
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from sluice.contract.names import CONTROL_PLANE_CLUSTER
from xds.resources.data_plane_messages import grpc_service, pack
from xds.resources.proto_messages import seconds

TIMEOUT: Final = 1.0
"""Seconds for which a request waits for the control plane. Envoy then refuses it."""


def awaiting_filter() -> HttpFilter:
    """The filter. It comes after ext_proc, because the callout chooses the cluster."""
    clusters = OnDemandCds(source=_SOURCE, timeout=seconds(TIMEOUT))
    return HttpFilter(
        name="envoy.filters.http.on_demand", typed_config=pack(OnDemand(odcds=clusters))
    )


_SOURCE: Final = ConfigSource(
    api_config_source=ApiConfigSource(
        # Not the ADS stream. In its state-of-the-world variant, Envoy would request only the
        # missing cluster from then on, and lose all others (seen with Envoy 1.40).
        api_type=ApiConfigSourceApiType.DELTA_GRPC,
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[grpc_service(CONTROL_PLANE_CLUSTER)],
    ),
    resource_api_version=ApiVersion.V3,
)
