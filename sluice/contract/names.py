"""Names of xDS resources, and the fields that identify the gateway's nodes."""

from typing import Final, Literal

POLICY_TYPE_URL: Final = "type.googleapis.com/sluice.policy.v1.Policy"
"""Type URL of the policy that callout workers subscribe to over ADS."""

POLICY: Final = "policy"
"""The resource of the type Policy with the settings that all models share."""

RUNTIME_TYPE_URL: Final = "type.googleapis.com/envoy.service.runtime.v3.Runtime"

JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
"""The filter that verifies tokens for native routes, and the resource with its config (ECDS)."""

LISTENER: Final = "gateway"
"""The listener for clients, and the prefix of its statistics."""

COPIES_LISTENER: Final = "copies"
"""The listener to which workers send the copies of mirrored requests."""

ROUTE_ATTRIBUTE, CLUSTER_ATTRIBUTE = "xds.route_name", "xds.cluster_name"
"""Envoy's attributes with the route and the cluster of a request."""

ROUTE_CONFIGURATION: Final = "gateway"

CALLOUT_CLUSTER: Final = "sluice-callout"
RUNTIME_CLUSTER: Final = "sluice-callout-runtime"
"""The workers of the callout, as the bootstrap of an Envoy names them."""

VIDEO_CLUSTER: Final = "sluice-video"
VIDEO_GRPC_CLUSTER: Final = "sluice-video-grpc"
"""The workers of the video service: for uploads and watchers by HTTP/1.1, and for gRPC calls."""

OTLP_LOG_CLUSTER: Final = "sluice-otlp-log"
OTLP_TRACE_CLUSTER: Final = "sluice-otlp-trace"
"""Clusters that serve no model version. Names of model version clusters always have a slash."""

NODE_CLUSTER: Final = "sluice"
"""`Node.cluster` of Envoys and workers."""

OTHER: Final = "other"
"""Stands for all models and versions that are not in the config, and for excess reasons. It is the
name of the routes that belong to no model."""

CALLOUT_AGENT: Final = "sluice-callout"
"""`Node.user_agent_name` of workers."""


VIDEO_AGENT: Final = "sluice-video"
"""`Node.user_agent_name` of workers of the video service."""

VIDEO_TYPE_URL: Final = "type.googleapis.com/sluice.video.v1.VideoConfig"
"""Type URL of the config that workers of the video service subscribe to over ADS."""

VIDEO_SETTINGS: Final = "settings"
"""The resource of the type VideoConfig with the settings that all workers share."""


STAGED: Final = "staged/"
"""Prefix of the names of resources of the type Policy that belong to the staged policy."""

STAGE_NAMESPACE, STAGE_KEY = "sluice", "stage"
"""Metadata of a virtual host of a staged Envoy: the version of the staged config. Other Envoys have
none."""


UNDECIDED_ROUTE: Final = "sluice-undecided"
"""In a mesh, the first route of every request for models: it refuses those without a decision. The
name must not be one of another application."""


def policy_model(model: str) -> str:
    """The name of the resource of the type Policy with a model."""
    return f"model/{model}"


def video_model(model: str) -> str:
    """The name of the resource of the type VideoConfig with a model."""
    return f"model/{model}"


def video_stream(stream: str) -> str:
    """The name of the resource of the type VideoConfig with a stream."""
    return f"stream/{stream}"


def cluster_name(model: str, version: str) -> str:
    """The name of the cluster of a model version."""
    return f"{model}/{version}"


def split_cluster_name(cluster: str) -> tuple[str, str]:
    """The model and the version of a cluster; empty strings for an empty name."""
    model, _, version = cluster.partition("/")
    return model, version


NATIVE_ROUTE_SUFFIX: Final = "/native"
"""End of the names of native routes: those with which Envoy admits requests without the callout.
Names of models have no slash."""

VIDEO_ROUTE_SUFFIX: Final = "/video"
"""End of the names of the routes to the video service."""

Placement = Literal["native", "callout"]
"""Where a request is decided: in Envoy alone, or by the callout."""

CONTROL_PLANE_CLUSTER: Final = "xds_cluster"
"""The cluster of the control plane in the bootstrap of an Envoy."""

NATIVE_RUNTIME: Final = "sluice-native"
"""The runtime layer that switches native routes on (RTDS). The callout's workers serve it."""

CONFIG_RUNTIME: Final = "sluice-config"
"""The runtime layer with the keys of `envoy.runtime` (RTDS). The control plane serves it."""

RUNTIME_METADATA: Final = "sluice_runtime"
"""Key of `Node.metadata` with the runtime layer that the bootstrap of an Envoy names."""


def native_route_name(model: str) -> str:
    """The name of the native routes of a model. Its callout routes have the name of the model."""
    return f"{model}{NATIVE_ROUTE_SUFFIX}"


def video_route_name(model: str) -> str:
    """The name of the routes of a model to the video service."""
    return f"{model}{VIDEO_ROUTE_SUFFIX}"


def split_route_name(route: str) -> tuple[str, Placement]:
    """The model of a route, and where the requests on this route are decided."""
    model = route.removesuffix(NATIVE_ROUTE_SUFFIX)
    return model.removesuffix(VIDEO_ROUTE_SUFFIX), "callout" if model == route else "native"


def native_version_key(digest: str, cluster: str) -> str:
    """The runtime key of the native routes to one version, as a percentage of requests.

    `digest` is that of what the routes were compiled from (`Model.native` in policy.proto).
    """
    return f"sluice.native.{digest}.{cluster}"


def native_model_key(digest: str, model: str) -> str:
    """The runtime key of the native routes of a model that choose among several versions."""
    return f"sluice.native.{digest}.{model}"


LISTENER_LIMIT: Final = "limits.listener"
"""Name of the listener's limit in the log and the metrics: its config key."""


def model_limit(model: str) -> str:
    """Name of a model's limit in the log and the metrics: its config key."""
    return f"limits.models.{model}"


def model_type_limit(model_type: str) -> str:
    """Name of the limit of a model type in the log and the metrics: its config key."""
    return f"limits.model_types.{model_type}"


def address_share(limit: str) -> str:
    """Name of the share of one client address in a limit, in the log and the metrics."""
    return f"{limit} (address_share)"
