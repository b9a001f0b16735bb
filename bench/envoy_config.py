"""Envoy configs for benchmarks: a model server, and a gateway with one listener for each variant of
the callout.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sluice.config.gateway import Callout
from xds.resources.filters import external_processor

MODEL_CLUSTER = "bench/v1"
DIRECT_RESPONSE: dict[str, object] = {
    "direct_response": {"status": 200, "body": {"inline_string": '{"outputs":[]}'}}
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One listener: the source of its responses, and its callout (if any)."""

    hop: str
    """`direct`: Envoy responds itself; `proxy`: it forwards to the model server."""
    method: str = "GET"
    """Method of the requests. A POST has a body."""
    transport: str | None = None
    """The transport of the callout's server; None without a callout."""
    filter: str = ""
    policy: str = ""
    distinct: bool = False
    """Whether every request is different, so that no decision comes from the admission cache."""

    @property
    def name(self) -> str:
        callout = f"{self.transport} {self.filter} {self.policy}" if self.transport else "plain"
        return f"{self.hop:<7}{self.method:<5}{callout}{' distinct' if self.distinct else ''}"


def upstream_config(port: int) -> dict[str, object]:
    """Config of an Envoy that replaces a model server and responds at once."""
    return {"static_resources": {"listeners": [_listener("model", port, DIRECT_RESPONSE, [])]}}


def gateway_config(
    ports: dict[Variant, int], upstream: str, callouts: dict[tuple[str, str], str]
) -> dict[str, object]:
    """Config with a listener for each variant. `callouts` are addresses by transport and policy."""
    listeners = []
    for variant, port in ports.items():
        filters = []
        if variant.transport:
            filters = [_callout_filter(variant, f"{variant.transport}-{variant.policy}")]
        listeners.append(_listener(variant.name, port, _route(variant), filters))
    clusters = [cluster(MODEL_CLUSTER, upstream)]
    clusters += [
        cluster(f"{transport}-{policy}", address, http2=True)
        for (transport, policy), address in callouts.items()
    ]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _route(variant: Variant) -> dict[str, object]:
    if variant.hop == "direct":
        return DIRECT_RESPONSE
    if variant.transport:
        return {"route": {"cluster_header": "x-model-service"}}
    return {"route": {"cluster": MODEL_CLUSTER}}


def cluster(name: str, address: str, *, http2: bool = False) -> dict[str, object]:
    """A cluster with one endpoint."""
    if address.startswith("unix:"):
        envoy_address: dict[str, object] = {"pipe": {"path": address.removeprefix("unix:")}}
    else:
        host, _, port = address.rpartition(":")
        envoy_address = {"socket_address": {"address": host, "port_value": int(port)}}
    endpoint = {"endpoint": {"address": envoy_address}}
    cluster: dict[str, object] = {
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    if http2:
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _callout_filter(variant: Variant, cluster: str) -> dict[str, object]:
    """The HTTP filter that calls a worker. The settings of ext_proc are those of the gateway."""
    service = {"cluster_name": cluster}
    if variant.filter == "ext_proc":
        message = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
        settings = external_processor(Callout()).to_dict()
        settings["grpcService"]["envoyGrpc"] = service
    else:
        message = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
        settings = {
            "grpc_service": {"envoy_grpc": service, "timeout": "2s"},
            "transport_api_version": "V3",
            "clear_route_cache": True,
            "encode_raw_headers": False,
        }
    return {
        "name": variant.filter,
        "typed_config": {"@type": f"type.googleapis.com/{message}", **settings},
    }


def _listener(name: str, port: int, route: dict[str, object], filters: Sequence[object]) -> object:
    """A listener with one route for every path."""
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "http",
                        "typed_config": {
                            "@type": f"type.googleapis.com/{manager}",
                            "stat_prefix": "bench",
                            "route_config": {"virtual_hosts": [host]},
                            "http_filters": [
                                *filters,
                                {"name": "router", "typed_config": {"@type": router}},
                            ],
                        },
                    }
                ]
            }
        ],
    }
