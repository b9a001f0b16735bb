"""A complete static config of Envoy, from the resources that the control plane would push.

The workers of the callout still decide: the static Envoy calls them at the addresses in the config.
"""

from collections.abc import Iterator
from typing import Final

import betterproto2
import yaml
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret

from sluice.bootstrap import NodeNames, render
from sluice.config.checked import LoadedConfig
from sluice.contract.names import CONFIG_RUNTIME, CONTROL_PLANE_CLUSTER
from sluice.envoy_identity import static_secrets
from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Snapshot
from xds.static.messages import Json, message_json, objects
from xds.static.secrets import named_secrets

_KINDS: Final[dict[ResourceType, type[betterproto2.Message]]] = {
    resource_types.CLUSTER: Cluster,
    resource_types.ENDPOINT: ClusterLoadAssignment,
    resource_types.LISTENER: Listener,
    resource_types.EXTENSION: TypedExtensionConfig,
    resource_types.ROUTE: RouteConfiguration,
    resource_types.SECRET: Secret,
}
"""The types of the resources for Envoy."""


def static_bootstrap(
    loaded: LoadedConfig, snapshot: Snapshot, node_id: str, *, with_secrets: bool
) -> Json:
    """A config and its resources as JSON, with keys and headers only if `with_secrets`.

    The issuers with a `jwks_uri` may have no keys in it: the callout verifies their tokens.
    """
    found = {each: dict(_resources(snapshot, each)) for each in _KINDS}
    rendered = render(loaded.config, NodeNames(node_id), directory=loaded.directory)
    bootstrap: Json = yaml.safe_load(rendered)
    _remove_control_plane(bootstrap, dict(loaded.config.envoy.runtime))
    static = bootstrap["static_resources"]
    used = (each for each in static["clusters"] if each["name"] != CONTROL_PLANE_CLUSTER)
    endpoints = found[resource_types.ENDPOINT]
    clusters = found[resource_types.CLUSTER].values()
    static["clusters"] = [*used, *(_with_endpoints(each, endpoints) for each in clusters)]
    routes, extensions = found[resource_types.ROUTE], found[resource_types.EXTENSION]
    static["listeners"] = list(found[resource_types.LISTENER].values())
    secrets = list(found[resource_types.SECRET].values())
    static["secrets"] = secrets if with_secrets else named_secrets(loaded)
    if loaded.config.identity is not None:
        static["secrets"] += static_secrets(loaded.config.identity, loaded.directory)
    for settings in objects(static):
        settings.pop("odcds", None)  # there is nobody to ask for a cluster
        settings.pop("sds_config", None)  # without it, a name is that of a static secret
        _contain_routes(settings, routes)
        _contain_extension(settings, extensions)
    return bootstrap


def _remove_control_plane(bootstrap: Json, runtime: Json) -> None:
    """Remove what only a control plane provides. `runtime`: the keys of the layer of the config."""
    del bootstrap["dynamic_resources"], bootstrap["cluster_manager"]["load_stats_config"]
    for layer in bootstrap["layered_runtime"]["layers"]:
        if layer["name"] == CONFIG_RUNTIME:
            del layer["rtds_layer"]
            layer["static_layer"] = runtime


def _resources(snapshot: Snapshot, each: ResourceType) -> Iterator[tuple[str, Json]]:
    for name, resource in snapshot.types[each].resources.items():
        yield name, message_json(_KINDS[each], resource.body)


def _with_endpoints(cluster: Json, endpoints: dict[str, Json]) -> Json:
    """The cluster with the endpoints that EDS would provide."""
    if cluster.get("type") != "EDS":
        return cluster
    rest = {name: value for name, value in cluster.items() if name != "eds_cluster_config"}
    return {**rest, "type": "STATIC", "load_assignment": endpoints[cluster["name"]]}


def _contain_routes(settings: Json, routes: dict[str, Json]) -> None:
    """Replace the reference to a route configuration by its content."""
    if "rds" in settings:
        settings["route_config"] = routes[settings.pop("rds")["route_config_name"]]


def _contain_extension(settings: Json, extensions: dict[str, Json]) -> None:
    """Replace the reference to the config of a filter by its content."""
    if "config_discovery" in settings:
        del settings["config_discovery"]
        settings["typed_config"] = extensions[settings["name"]]["typed_config"]
