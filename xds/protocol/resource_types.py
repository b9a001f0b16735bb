"""Type URLs of the resources that are served, named by their discovery services."""

from typing import Final

from sluice.contract.names import POLICY_TYPE_URL

CLUSTER: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT: Final = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
POLICY: Final = POLICY_TYPE_URL
RATE_LIMIT: Final = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig"

ALL: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE, POLICY, RATE_LIMIT)
"""In the order in which they are sent on one stream: what is referred to before what refers."""

WILDCARD: Final = frozenset({CLUSTER, LISTENER, POLICY, RATE_LIMIT})
"""Types of which an empty list of names asks for everything (xDS protocol, "wildcard")."""

SHORT: Final = {
    CLUSTER: "clusters",
    ENDPOINT: "endpoints",
    LISTENER: "listeners",
    ROUTE: "routes",
    POLICY: "policy",
    RATE_LIMIT: "rate_limits",
}
"""For people: status and logs."""
