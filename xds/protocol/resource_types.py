"""The resource types that the control plane serves: one row for each.

A new type is one row here and in `OWN`, and one compiler function in `xds.resources.build`. The
types of Istio are for istiod, on a port of their own (`xds.istio`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from sluice.contract.names import POLICY_TYPE_URL, RUNTIME_TYPE_URL, VIDEO_TYPE_URL


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """One xDS resource type.

    `name` is the short name in status, logs and metrics.

    `wildcard`: a client that has never sent a resource name subscribes to every resource.

    `referrer`: a client subscribes to this type only after it has received resources of the
    referrer. A client that has subscribed to the referrer is in sync only after it has also
    subscribed to this type.

    `after_referrer`: an update that the client has not requested waits for the referrer's update.
    In the state-of-the-world variant, it waits until the client has sent an ACK or NACK of that.

    `warms_referrer`: the client takes a changed resource of the referrer into use only when it has
    received the resource of this type with the same name, also if that has not changed ("Resource
    warming" in the xDS protocol). In the incremental variant, the client does not request it again.

    `service` and `method`: the gRPC service of this type alone, and the ends of the names of its
    methods (`Stream...`, `Delta...`). Empty if the type is served only together with others (ADS).

    `make_before_break`: other resources refer to resources of this type by name. A rollout adds
    resources of this type before those that refer to them, and removes them after the references.

    `message_url`: the type URL of the message that a resource is; empty if it is `url`.
    """

    url: str
    name: str
    wildcard: bool
    referrer: Self | None = None
    after_referrer: bool = False
    warms_referrer: bool = False
    make_before_break: bool = False
    service: str = ""
    method: str = ""
    message_url: str = ""


RUNTIME: Final = ResourceType(
    RUNTIME_TYPE_URL,
    "runtime",
    wildcard=False,
    service="envoy.service.runtime.v3.RuntimeDiscoveryService",
    method="Runtime",
)
CLUSTER: Final = ResourceType(
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "clusters",
    wildcard=True,
    make_before_break=True,
    service="envoy.service.cluster.v3.ClusterDiscoveryService",
    method="Clusters",
)
ENDPOINT: Final = ResourceType(
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "endpoints",
    wildcard=False,
    referrer=CLUSTER,
    after_referrer=True,
    warms_referrer=True,
    make_before_break=True,
    service="envoy.service.endpoint.v3.EndpointDiscoveryService",
    method="Endpoints",
)
SECRET: Final = ResourceType(
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "secrets",
    wildcard=False,
    # Without a referrer: Envoy accepts a new cluster only when it has the secrets of the cluster,
    # and a cluster that no longer names a secret ends its subscription.
    make_before_break=True,
    service="envoy.service.secret.v3.SecretDiscoveryService",
    method="Secrets",
)
LISTENER: Final = ResourceType(
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "listeners",
    wildcard=True,
    # Envoy subscribes to listeners only after its first clusters are ready.
    referrer=CLUSTER,
    service="envoy.service.listener.v3.ListenerDiscoveryService",
    method="Listeners",
)
ROUTE: Final = ResourceType(
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "routes",
    wildcard=False,
    referrer=LISTENER,
    service="envoy.service.route.v3.RouteDiscoveryService",
    method="Routes",
)
EXTENSION: Final = ResourceType(
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    "extensions",
    wildcard=False,
    referrer=LISTENER,
    service="envoy.service.extension.v3.ExtensionConfigDiscoveryService",
    method="ExtensionConfigs",
)
POLICY: Final = ResourceType(POLICY_TYPE_URL, "policy", wildcard=True)
VIDEO: Final = ResourceType(VIDEO_TYPE_URL, "videos", wildcard=True)
RATE_LIMIT: Final = ResourceType(
    "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig",
    "rate_limits",
    wildcard=True,
)

MCP_RESOURCE_URL: Final = "type.googleapis.com/istio.mcp.v1alpha1.Resource"
"""The message in which istiod expects each resource, with its namespace, name and version."""

SERVICE_ENTRY: Final = ResourceType(
    "networking.istio.io/v1/ServiceEntry",
    "service_entries",
    wildcard=True,
    make_before_break=True,
    message_url=MCP_RESOURCE_URL,
)
DESTINATION_RULE: Final = ResourceType(
    "networking.istio.io/v1/DestinationRule",
    "destination_rules",
    wildcard=True,
    make_before_break=True,
    message_url=MCP_RESOURCE_URL,
)
VIRTUAL_SERVICE: Final = ResourceType(
    "networking.istio.io/v1/VirtualService",
    "virtual_services",
    wildcard=True,
    # The callout decides by names of routes, which the mesh must have first.
    make_before_break=True,
    message_url=MCP_RESOURCE_URL,
)

ISTIO: Final = (SERVICE_ENTRY, DESTINATION_RULE, VIRTUAL_SERVICE)
"""Types that istiod gets, by group, version and kind: hosts before routes."""

OWN: Final = (
    RUNTIME,
    CLUSTER,
    ENDPOINT,
    SECRET,
    LISTENER,
    EXTENSION,
    ROUTE,
    POLICY,
    VIDEO,
    RATE_LIMIT,
)
"""The types of Envoys and workers, in push order, which is the order of the xDS protocol: CDS, EDS,
LDS, RDS. A type comes after its `referrer`. Extensions (ECDS) come before routes: a revoked key is
refused before Envoy has loaded a large table of routes."""

ALL: Final = (*OWN, *ISTIO)
"""Every type, in push order."""

BY_URL: Final[Mapping[str, ResourceType]] = {each.url: each for each in OWN}
"""The types that Envoys and workers get."""
