"""The patches that conversion needs: settings and filters for which Envoy Gateway has no API.

A converted request has another path, another method and a gRPC body. Envoy Gateway's filter does
not let the callout change the path, and its listeners do not translate trailers of gRPC.
"""

from typing import Final

from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from xds.gateway_api.callout import POLICY
from xds.gateway_api.objects import GATEWAY, PREFIX, Object, kubernetes_object
from xds.gateway_api.target import Target
from xds.resources import credentials, grpc_bridge, header_mutations
from xds.resources.filters import MAX_WAIT
from xds.static.messages import message_json

_LISTENER: Final = "type.googleapis.com/envoy.config.listener.v3.Listener"
_ROUTER: Final = "envoy.filters.http.router"


def conversion_patches(target: Target) -> Object:
    """The EnvoyPatchPolicy for the listeners of the target."""
    patches = [
        {"type": _LISTENER, "name": _listener_name(target, each), "operation": operation}
        for each in target.listeners
        for operation in _operations(_callout_filter(target))
    ]
    spec: Object = {
        "type": "JSONPatch",
        "targetRef": {"group": GATEWAY, "kind": "Gateway", "name": target.gateway},
        "jsonPatches": patches,
    }
    return kubernetes_object("EnvoyPatchPolicy", target.gateway_namespace, PREFIX, spec)


def _listener_name(target: Target, listener: str) -> str:
    """The name of Envoy's listener for a listener of the Gateway."""
    return f"{target.gateway_namespace}/{target.gateway}/{listener}"


def _callout_filter(target: Target) -> str:
    """The name of the filter that calls the callout."""
    kind = "envoyextensionpolicy"
    return f"envoy.filters.http.ext_proc/{kind}/{target.namespace}/{POLICY}/extproc/0"


def _operations(callout: str) -> list[Object]:
    """The changes of a listener. `add` at the place of a filter inserts before it."""
    return [
        _add(callout, "/typed_config/mutation_rules", {"allow_all_routing": True}),
        _add(callout, "/typed_config/max_message_timeout", _seconds(MAX_WAIT)),
        _add(_ROUTER, "/typed_config/upstream_http_filters", _upstream_filters()),
        # Envoy runs the filters for responses from the last to the first.
        _add(callout, "", _filter(header_mutations.converted_responses())),
        _add(_ROUTER, "", _filter(grpc_bridge.bridge_filter())),
    ]


def _add(filter_name: str, path: str, value: object) -> Object:
    found: Object = {"op": "add", "jsonPath": f"..http_filters[?(@.name=='{filter_name}')]"}
    return {**found, **({"path": path} if path else {}), "value": value}


def _seconds(value: float) -> str:
    """A duration of protobuf as JSON."""
    return f"{value:g}s"


def _filter(message: HttpFilter) -> Object:
    """A filter as JSON, enabled for all routes: Envoy Gateway's routes cannot enable it."""
    message.disabled = False
    return message_json(HttpFilter, bytes(message))


def _upstream_filters() -> list[Object]:
    """The filters between the router and the model server."""
    filters = (header_mutations.at_converting_model_server(), credentials.upstream_codec())
    return [message_json(HttpFilter, bytes(each)) for each in filters]
