"""The callout as an external authorizer of the mesh (ext_authz).

The mesh config names the callout as a provider, and a policy lets gateways ask it. It sees only
headers. So requests whose bodies must be converted are refused.
"""

from collections.abc import Iterator
from typing import Final

from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthz

from sluice.config import GatewayConfig
from sluice.config.addresses import split_host_port
from sluice.config.istio import Istio, Workload
from sluice.config.values import format_duration
from sluice.contract import headers
from xds.istio.documents import Json, metadata, named_workloads
from xds.istio.envoy_patches import (
    UNDECIDED,
    callout_patch,
    connections_patch,
    envoy_filter,
    http_filter_patch,
    packed_json,
)
from xds.resources.telemetry import report_format

PROVIDER: Final = "sluice-ext-authz"
REPORTS: Final = "sluice-reports"
"""Names of the providers in the mesh config."""

POLICY: Final = "sluice-callout"
ENVOY_FILTER: Final = "sluice-ext-authz"
"""Names of the objects."""

_EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"

_ABOUT_MODELS: Final = f"{UNDECIDED} || '{headers.MODEL_SERVICE}' in request.headers"
"""Only requests for models (CEL): those with a decision, and those that were refused."""


def extension_providers(config: GatewayConfig, istio: Istio) -> list[Json]:
    """The providers for `meshConfig.extensionProviders`.

    Nothing is admitted without an answer: `failOpen` is off. Envoy must choose the route by the
    headers that the callout sets (`clearRouteCache`, see `_envoy_filters`).
    """
    host, port = split_host_port(istio.callout)
    service = {"service": host, "port": int(port)}
    providers: list[Json] = [
        {
            "name": PROVIDER,
            "envoyExtAuthzGrpc": {
                **service,
                "timeout": format_duration(config.callout.message_timeout),
                "failOpen": False,
                "statusOnError": "503",
                "clearRouteCache": True,
            },
        }
    ]
    if config.telemetry.reports.enabled:
        otel = {**service, "logName": REPORTS, "logFormat": {"text": report_format()}}
        providers.append({"name": REPORTS, "envoyOtelAls": otel})
    return providers


def policies(config: GatewayConfig, istio: Istio) -> Iterator[Json]:
    """The policies of the workloads, their reports of finished requests, and an EnvoyFilter."""
    for name, workload in named_workloads(istio, POLICY):
        yield _policy(name, istio, workload)
        if config.telemetry.reports.enabled:
            yield _telemetry(name, workload)
    yield from _envoy_filters(istio)


def _policy(name: str, istio: Istio, workload: Workload) -> Json:
    """The policy selects all requests for the hosts, whatever their path.

    A request that it does not select reaches the routes with the headers of the client, also the
    route of a version.
    """
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata(name, workload.namespace),
        "spec": {
            "selector": {"matchLabels": dict(workload.labels)},
            "action": "CUSTOM",
            "provider": {"name": PROVIDER},
            "rules": [{"to": [{"operation": {"hosts": _hosts(istio)}}]}],
        },
    }


def _hosts(istio: Istio) -> list[str]:
    """The hosts, with and without a port. A policy has no pattern with two asterisks."""
    if any(host.startswith("*") for host in istio.hosts):
        return ["*"]
    return [each for host in istio.hosts for each in (host, f"{host}:*")]


def _telemetry(name: str, workload: Workload) -> Json:
    return {
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": metadata(name, workload.namespace),
        "spec": {
            "selector": {"matchLabels": dict(workload.labels)},
            "accessLogging": [
                {"providers": [{"name": REPORTS}], "filter": {"expression": _ABOUT_MODELS}}
            ],
        },
    }


def _envoy_filters(istio: Istio) -> Iterator[Json]:
    """An EnvoyFilter for each workload.

    Istiod does not let Envoy match the route again after the policy: it ignores `clearRouteCache`
    of the provider (Istio 1.31). Without this filter, all requests are refused: the callout refuses
    those that name a service themselves.
    """
    again = packed_json(ExtAuthz, ExtAuthz(clear_route_cache=True))
    for name, workload in named_workloads(istio, ENVOY_FILTER):
        value = {"name": _EXT_AUTHZ, "typed_config": again}
        patches = [
            connections_patch(workload),
            http_filter_patch(workload, _EXT_AUTHZ, "MERGE", value),
            callout_patch(istio, workload),
        ]
        yield envoy_filter(name, workload, patches)
