"""The resource types that the control plane serves: one row for each.

A new type is one row here and in `ALL`, and one compiler function in `xds.resources.build`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from sluice.contract.names import POLICY_TYPE_URL


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """One xDS resource type.

    `name` is the short name in status, logs and metrics.

    `wildcard`: a client that has never sent a resource name subscribes to every resource.

    `referrer`: a client subscribes to this type only after it has received resources of the
    referrer. A client that has subscribed to the referrer is in sync only after it has also
    subscribed to this type.

    `after_referrer`: an update that the client has not requested waits until the client has sent an
    ACK or NACK of the referrer's update.

    `make_before_break`: other resources refer to resources of this type by name. A rollout adds
    resources of this type before those that refer to them, and removes them after the references.
    """

    url: str
    name: str
    wildcard: bool
    referrer: Self | None = None
    after_referrer: bool = False
    make_before_break: bool = False


CLUSTER: Final = ResourceType(
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "clusters",
    wildcard=True,
    make_before_break=True,
)
ENDPOINT: Final = ResourceType(
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "endpoints",
    wildcard=False,
    referrer=CLUSTER,
    after_referrer=True,
    make_before_break=True,
)
SECRET: Final = ResourceType(
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "secrets",
    wildcard=False,
    # Without a referrer: Envoy accepts a new cluster only when it has the secrets of the cluster,
    # and a cluster that no longer names a secret ends its subscription.
    make_before_break=True,
)
LISTENER: Final = ResourceType(
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "listeners",
    wildcard=True,
    # Envoy subscribes to listeners only after its first clusters are ready.
    referrer=CLUSTER,
)
ROUTE: Final = ResourceType(
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "routes",
    wildcard=False,
    referrer=LISTENER,
)
EXTENSION: Final = ResourceType(
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    "extensions",
    wildcard=False,
    referrer=LISTENER,
)
POLICY: Final = ResourceType(POLICY_TYPE_URL, "policy", wildcard=True)
RATE_LIMIT: Final = ResourceType(
    "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig",
    "rate_limits",
    wildcard=True,
)

ALL: Final = (CLUSTER, ENDPOINT, SECRET, LISTENER, EXTENSION, ROUTE, POLICY, RATE_LIMIT)
"""In push order, which is the order of the xDS protocol: CDS, EDS, LDS, RDS. A type comes after its
`referrer`. Extensions (ECDS) come before routes: a revoked key is refused before Envoy has loaded a
large table of routes."""

BY_URL: Final[Mapping[str, ResourceType]] = {each.url: each for each in ALL}
