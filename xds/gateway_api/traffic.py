"""Policies for connections: of clients to the Gateway, and of Envoy to each version."""

from typing import Final

from sluice.config import GatewayConfig, Model, Version
from sluice.config.models import Pool, Retries
from sluice.contract import headers
from xds.gateway_api.objects import (
    PREFIX,
    Object,
    duration,
    kubernetes_object,
    object_name,
    rule_name,
)
from xds.gateway_api.routes import of_route, route_name
from xds.gateway_api.target import Target, on_gateway
from xds.resources.clusters import IDLE_TIMEOUTS, KEEPALIVE_PROBES, keepalive_times
from xds.resources.routes import buffer_limit

_UNDERSCORES: Final = {"reject": "RejectRequest", "drop": "DropHeader", "allow": "Allow"}


def client_policy(target: Target, config: GatewayConfig) -> Object:
    """What Envoy does with the requests of clients before any route, and with all responses.

    Only the gateway may set the headers that the policy removes. They choose versions.
    """
    internal = {"type": "Prefix", "value": headers.INTERNAL_PREFIX}
    decision = {"type": "Exact", "value": headers.MODEL_SERVICE}
    underscores = config.listener.headers_with_underscores
    removed: list[Object] = [dict(decision), dict(internal)]
    if underscores == "allow":
        aliases = headers.ALIASES
        removed += [{"type": "RegularExpression", "value": alias} for alias in aliases]
    spec: Object = {
        "targetRefs": on_gateway(target),
        "headers": {
            "earlyRequestHeaders": {"removeOnMatch": removed},
            "lateResponseHeaders": {"removeOnMatch": [internal]},
            "withUnderscoresAction": _UNDERSCORES[underscores],
        },
        # Routes, the callout and the model server must see the same path.
        "path": {"escapedSlashesAction": "RejectRequest"},
        "scheme": "MatchBackend",
    }
    converting = (each for each in config.models.values() if each.converts)
    bodies = [buffer_limit(each, config.requests) for each in converting]
    if target.converts and bodies:
        spec["connection"] = {"bufferLimit": max(bodies)}
    return kubernetes_object("ClientTrafficPolicy", target.gateway_namespace, PREFIX, spec)


def version_policy(
    target: Target, config: GatewayConfig, model: str, section: Model, name: str
) -> Object:
    """Timeouts, retries, the connection pool and the health checks of a version."""
    version = section.versions[name]
    versions = list(section.versions)
    spec: Object = {
        "targetRefs": [of_route(route_name(model, versions, name), rule_name(name))],
        "timeout": _timeouts(section, version),
        "retry": _retries(section.retries),
        "circuitBreaker": _circuit_breaker(section.pool),
        "healthCheck": _health_check(version),
    }
    if section.pool.tcp_keepalive is not None:
        idle, interval = map(duration, keepalive_times(section.pool.tcp_keepalive))
        spec["tcpKeepalive"] = {
            "idleTime": idle,
            "interval": interval,
            "probes": KEEPALIVE_PROBES,
        }
    if target.converts and section.converts:
        spec["connection"] = {"bufferLimit": buffer_limit(section, config.requests)}
    return kubernetes_object(
        "BackendTrafficPolicy", target.namespace, object_name(model, name), spec
    )


def _timeouts(model: Model, version: Version) -> Object:
    idle = model.pool.idle_timeout
    return {
        "tcp": {"connectTimeout": duration(model.pool.connect_timeout)},
        "http": {
            "connectionIdleTimeout": duration(
                IDLE_TIMEOUTS[version.protocol] if idle is None else idle
            ),
            "streamIdleTimeout": duration(model.idle_timeout),
        },
    }


def _retries(retries: Retries) -> Object:
    found: Object = {"numRetries": retries.attempts}
    if retries.attempts:
        found["retryOn"] = {"triggers": list(retries.retry_on)}
    if retries.per_try_timeout is not None:
        found["perRetry"] = {"timeout": duration(retries.per_try_timeout)}
    return found


def _circuit_breaker(pool: Pool) -> Object:
    found: Object = {
        "maxConnections": pool.max_connections,
        "maxPendingRequests": pool.max_pending_requests,
        "maxParallelRequests": pool.max_requests,
        "maxParallelRetries": pool.max_retries,
    }
    if pool.max_requests_per_connection:
        found["maxRequestsPerConnection"] = pool.max_requests_per_connection
    return found


def _health_check(version: Version) -> Object:
    """Without panic mode, in which Envoy uses unhealthy endpoints too."""
    check = version.health_check
    if check is None:
        return {"panicThreshold": 0}
    active: Object = {
        "interval": duration(check.interval),
        "timeout": duration(check.timeout),
        "healthyThreshold": check.healthy_threshold,
        "unhealthyThreshold": check.unhealthy_threshold,
    }
    if version.protocol == "grpc":
        active |= {"type": "GRPC", "grpc": {}}
    else:
        active |= {"type": "HTTP", "http": {"path": check.path}}
    return {"active": active, "panicThreshold": 0}
