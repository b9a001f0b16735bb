"""Patches of EnvoyFilters, for the filters of `envoy_filters` and of `authorization`."""

from collections.abc import Iterable
from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)

from sluice.config.addresses import split_host_port
from sluice.config.istio import Istio, Workload
from sluice.contract.names import UNDECIDED_ROUTE
from xds.istio.documents import Json, metadata
from xds.resources import callout_cluster, header_mutations
from xds.resources.data_plane_messages import pack
from xds.resources.proto_messages import serialized
from xds.static.messages import message_json

UNDECIDED: Final = f"xds.route_name == '{UNDECIDED_ROUTE}'"
"""Whether a request has no decision (CEL)."""

_CONNECTION_MANAGER: Final = "envoy.filters.network.http_connection_manager"

_WORKERS: Final = 100
"""Pods of the callout that the settings of its cluster assume: all but one may be ejected."""

_CONTEXTS: Final = {"gateway": "GATEWAY", "sidecar": "SIDECAR_OUTBOUND"}


def envoy_filter(name: str, workload: Workload, patches: Iterable[Json]) -> Json:
    """The Kubernetes object that patches the Envoys of a workload."""
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": metadata(name, workload.namespace),
        "spec": {
            "workloadSelector": {"labels": dict(workload.labels)},
            "configPatches": list(patches),
        },
    }


def patch(workload: Workload, kind: str, match: Json, operation: str, value: Json) -> Json:
    """One patch. `kind`: what it applies to, `match`: to which of them."""
    return {
        "applyTo": kind,
        "match": {"context": _CONTEXTS[workload.kind], **match},
        "patch": {"operation": operation, "value": value},
    }


def http_filter_patch(workload: Workload, name: str, operation: str, value: Json) -> Json:
    """A patch at the HTTP filter with this name."""
    place: Json = {"name": _CONNECTION_MANAGER, "subFilter": {"name": name}}
    match = {"listener": {"filterChain": {"filter": place}}}
    return patch(workload, "HTTP_FILTER", match, operation, value)


def connections_patch(workload: Workload, logs: Iterable[AccessLog] = ()) -> Json:
    """Removes internal headers of clients, and adds access logs.

    An Envoy of the mesh accepts names with underscores.
    """
    added = HttpConnectionManager(
        early_header_mutation_extensions=[header_mutations.from_requests(with_underscores=True)],
        access_log=list(logs),
    )
    match = {"listener": {"filterChain": {"filter": {"name": _CONNECTION_MANAGER}}}}
    value = {"typed_config": packed_json(HttpConnectionManager, added)}
    return patch(workload, "NETWORK_FILTER", match, "MERGE", value)


def callout_patch(istio: Istio, workload: Workload) -> Json:
    """The settings of the cluster by which no request fails because a worker ends.

    Without the circuit breakers: those of a mesh have no limits, unless a DestinationRule has some.
    """
    settings = callout_cluster.settings(_WORKERS)
    settings.ClearField("circuit_breakers")
    host, port = split_host_port(istio.callout)
    match = {"cluster": {"service": host, "portNumber": int(port)}}
    value = message_json(Cluster, serialized(settings))
    return patch(workload, "CLUSTER", match, "MERGE", value)


def packed_json(kind: type[betterproto2.Message], message: betterproto2.Message) -> Json:
    """A message of this type as the JSON of a google.protobuf.Any."""
    return {"@type": pack(message).type_url, **message_json(kind, bytes(message))}
