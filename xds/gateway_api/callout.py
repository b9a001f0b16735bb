"""The callout: the policy that lets Envoy call it, its backends, and Envoy's reports to it."""

from collections.abc import Iterable, Iterator
from typing import Final

from sluice.config import GatewayConfig
from sluice.config.addresses import is_ip, split_host_port
from sluice.contract import headers
from sluice.contract.names import OTHER
from sluice.contract.report import ABSENT
from xds.gateway_api.backends import H2C, HEALTH_CHECK_PROTOCOLS, endpoint
from xds.gateway_api.objects import (
    ENVOY_GATEWAY,
    GATEWAY,
    PREFIX,
    Object,
    UnexportableError,
    duration,
    kubernetes_object,
)
from xds.gateway_api.target import CALLOUT, Target, grant, service
from xds.resources.callout_cluster import (
    CHECK_INTERVAL,
    CHECK_TIMEOUT,
    CONNECT_TIMEOUT,
    EJECTION_INTERVAL,
    EJECTION_TIME,
    MAX_CALLS,
    MAX_RETRIES,
    PING_TIMEOUT,
    RETRY_BACK_OFF,
    UNHEALTHY_THRESHOLD,
)
from xds.resources.telemetry import report_format
from xds.resources.upstream import CONNECTION_WINDOW, STREAM_WINDOW

POLICY: Final = PREFIX
"""The name of the EnvoyExtensionPolicy with the callout, and of the EnvoyProxy with the reports."""

_ROUTE: Final = (
    f"%CEL(xds.route_name == '' ? '{ABSENT}'"
    f" : '{headers.MODEL}' in request.headers ? request.headers['{headers.MODEL}'] : '{OTHER}')%"
)
"""The field `route` of a report: the model. Envoy Gateway chooses the names of its routes."""

_BACKEND: Final[Object] = {"group": ENVOY_GATEWAY, "kind": "Backend", "name": CALLOUT}

_STATUS_ON_ERROR: Final = 503

_PING_INTERVAL: Final = 1.0
"""Seconds. Envoy Gateway demands more than the timeout of a ping."""

_MAX_EJECTED: Final = 90
"""Percent: not all workers, or requests would be refused instead of waiting for the last one."""


def callout_objects(
    target: Target, config: GatewayConfig, routes: Iterable[str]
) -> Iterator[Object]:
    """The objects for calls to the callout, from these HTTPRoutes. Raises UnexportableError."""
    yield from _endpoints(target, config)
    # By name: without an API server, Envoy Gateway does not read the labels of routes.
    targets = [{"group": GATEWAY, "kind": "HTTPRoute", "name": name} for name in routes]
    callout: Object = {
        "backendRefs": _references(target, config),
        "backendSettings": _settings(),
        "messageTimeout": duration(_message_timeout(target, config)),
        "failOpen": False,
        "statusOnError": _STATUS_ON_ERROR,
        # Request headers, and nothing else unless the callout asks for it.
        "processingMode": {"request": {}, "allowModeOverride": True},
    }
    spec: Object = {"targetRefs": targets, "extProc": [callout]}
    yield kubernetes_object("EnvoyExtensionPolicy", target.namespace, POLICY, spec)
    if config.telemetry.reports.enabled:
        yield _reports(target, config)


def _message_timeout(target: Target, config: GatewayConfig) -> float:
    """Without the patches, the callout cannot ask Envoy to wait longer for a conversion."""
    callout = config.callout
    converts = any(model.converts for model in config.models.values())
    if converts and not target.converts:
        return callout.message_timeout + callout.conversion_timeout
    return callout.message_timeout


def _encrypted(config: GatewayConfig) -> bool:
    return config.identity is not None and config.identity.mutual


def client_secret(target: Target, config: GatewayConfig) -> str | None:
    """What the operator must create for TLS towards the callout; None without TLS."""
    if not _encrypted(config):
        return None
    return (
        f"Secret {target.namespace}/{CALLOUT} of the type kubernetes.io/tls must have the "
        "certificate and the key of identity.envoy, and identity.ca as ca.crt"
    )


def _references(target: Target, config: GatewayConfig) -> list[Object]:
    """The backendRefs of the workers: each listens on a port of its own."""
    if target.service is None or _encrypted(config):
        if target.namespace != target.gateway_namespace:
            return [{**_BACKEND, "namespace": target.namespace}]
        return [dict(_BACKEND)]
    name, namespace = target.service
    ports = target.callout_ports(config.callout.workers)
    return [{"name": name, "namespace": namespace, "port": port} for port in ports]


def _endpoints(target: Target, config: GatewayConfig) -> Iterator[Object]:
    """A Backend, if the callout is no Service or has TLS, and what else the references need."""
    if target.service is not None and not _encrypted(config):
        yield from _grants(target, *target.service)
        return
    host, _ = split_host_port(target.callout)
    if target.service is not None:
        host = "{}.{}.svc.cluster.local".format(*target.service)
    ports = target.callout_ports(config.callout.workers)
    host = f"[{host}]" if is_ip(host) and ":" in host else host
    content: Object = {
        "endpoints": [endpoint(f"{host}:{port}") for port in ports],
        "appProtocols": [H2C],
    }
    if _encrypted(config):
        content["tls"] = _tls(config)
    yield kubernetes_object("Backend", target.namespace, CALLOUT, content)
    if target.namespace != target.gateway_namespace:
        source = (ENVOY_GATEWAY, "EnvoyProxy", target.gateway_namespace)
        yield grant(target.namespace, CALLOUT, dict(_BACKEND), [source])


def _tls(config: GatewayConfig) -> Object:
    assert config.identity is not None
    name = config.identity.callout.name
    if "/" in name:
        message = "Envoy Gateway compares the certificate of the callout with a DNS name"
        raise UnexportableError(("identity", "callout", "name"), message, "write a DNS name")
    secret = {"kind": "Secret", "name": CALLOUT}
    return {
        "alpnProtocols": list(HEALTH_CHECK_PROTOCOLS),
        "caCertificateRefs": [{"group": "", **secret}],
        "clientCertificateRef": dict(secret),
        "sni": name,
    }


def _grants(target: Target, name: str, namespace: str) -> Iterator[Object]:
    kinds = [("EnvoyExtensionPolicy", target.namespace), ("EnvoyProxy", target.gateway_namespace)]
    sources = [(ENVOY_GATEWAY, kind, own) for kind, own in kinds if own != namespace]
    if sources:
        yield grant(namespace, CALLOUT, service(name), sources)


def _settings() -> Object:
    """How Envoy repeats calls, and finds a worker that has ended or hangs, as our own Envoys do."""
    active = {
        "type": "GRPC",
        "grpc": {},
        "interval": duration(CHECK_INTERVAL),
        "timeout": duration(CHECK_TIMEOUT),
        "unhealthyThreshold": UNHEALTHY_THRESHOLD,
        "healthyThreshold": 1,
    }
    passive = {
        "splitExternalLocalOriginErrors": True,
        "consecutiveLocalOriginFailures": 1,
        # A status that the callout returns says nothing about the worker's health.
        "consecutive5XxErrors": 0,
        "consecutiveGatewayErrors": 0,
        "interval": duration(EJECTION_INTERVAL),
        "baseEjectionTime": duration(EJECTION_TIME),
        "maxEjectionPercent": _MAX_EJECTED,
    }
    return {
        "timeout": {"tcp": {"connectTimeout": duration(CONNECT_TIMEOUT)}},
        "healthCheck": {"active": active, "passive": passive, "panicThreshold": 0},
        "http2": {
            "connectionKeepalive": {
                "interval": duration(_PING_INTERVAL),
                "timeout": duration(PING_TIMEOUT),
            },
            "initialStreamWindowSize": STREAM_WINDOW,
            "initialConnectionWindowSize": CONNECTION_WINDOW,
        },
        "retry": {
            "numRetries": MAX_RETRIES,
            "retryOn": {"triggers": ["connect-failure", "refused-stream", "reset"]},
            # Without a maximum, Envoy Gateway 1.9 ends (buildNonRouteRetryPolicy).
            "perRetry": {
                "backOff": {
                    "baseInterval": duration(RETRY_BACK_OFF),
                    "maxInterval": duration(10 * RETRY_BACK_OFF),
                }
            },
        },
        "circuitBreaker": {
            "maxParallelRequests": MAX_CALLS,
            "maxPendingRequests": MAX_CALLS,
            "maxParallelRetries": MAX_CALLS,
        },
    }


def _reports(target: Target, config: GatewayConfig) -> Object:
    """Envoy's reports of finished requests: the access log, the metrics and the breakers need them.

    A Gateway uses the object only if its `infrastructure.parametersRef` names it.
    """
    sink = {
        "type": "OpenTelemetry",
        "openTelemetry": {"backendRefs": _references(target, config)},
    }
    setting = {"format": {"type": "Text", "text": report_format(_ROUTE)}, "sinks": [sink]}
    spec: Object = {"telemetry": {"accessLog": {"settings": [setting]}}}
    return kubernetes_object("EnvoyProxy", target.gateway_namespace, POLICY, spec)
