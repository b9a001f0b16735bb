"""Routes (RDS): which requests may go on to a cluster, and how long they may take.

The cluster itself is the callout's decision: every route reads it from a request header that no
client can set. A route adds what belongs to the model: timeouts, retries, upgrades, limits.
"""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    RouteActionUpgradeConfig,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from sluice.config import OIP_PREFIX, GatewayConfig, Model, cluster_name
from sluice.config.models import Retries
from xds.resources import limits
from xds.resources.messages import header, pack, seconds

ROUTES_NAME = "gateway"
CLUSTER_HEADER = "x-model-service"
MODEL_HEADER = "x-model-name"
REASON_HEADER = "x-sluice-reason"
GRPC_PREFIX = "/inference.GRPCInferenceService/"


def route_configuration(config: GatewayConfig) -> RouteConfiguration:
    """The one route table of the listener."""
    return RouteConfiguration(
        name=ROUTES_NAME,
        # Whatever the Host header says: models are told apart by path.
        virtual_hosts=[
            VirtualHost(
                name=ROUTES_NAME,
                domains=["*"],
                routes=list(_routes(config)),
                typed_per_filter_config=limits.per_route(config),
            )
        ],
        response_headers_to_add=_reason(config),
        response_headers_to_remove=[] if config.requests.expose_reason else [REASON_HEADER],
    )


def _reason(config: GatewayConfig) -> list[HeaderValueOption]:
    if not config.requests.expose_reason:
        return []
    return [header(REASON_HEADER, f"%REQ({REASON_HEADER})%")]


def _routes(config: GatewayConfig) -> Iterator[Route]:
    for name, model in config.models.items():
        for match in _matches(name, model):
            yield _route(name, model, match)
    # So that every request reaches the callout, which knows what to answer.
    yield Route(name="other", match=RouteMatch(prefix="/"), route=_action())


def _matches(name: str, model: Model) -> Iterator[RouteMatch]:
    """What leads to a model: the decision, once it is made, and the address until then.

    Envoy matches again after the decision (see the ext_proc filter), whatever path the callout
    put in place of the client's.
    """
    yield RouteMatch(prefix="/", headers=[_header(CLUSTER_HEADER, prefix=cluster_name(name, ""))])
    for path in (OIP_PREFIX + name, *model.paths):
        yield RouteMatch(path_separated_prefix=path)
    yield RouteMatch(prefix=GRPC_PREFIX, headers=[_header(MODEL_HEADER, exact=name)])


def _header(name: str, *, exact: str | None = None, prefix: str | None = None) -> HeaderMatcher:
    return HeaderMatcher(name=name, string_match=StringMatcher(exact=exact, prefix=prefix))


def _route(name: str, model: Model, match: RouteMatch) -> Route:
    action = _action()
    action.timeout = seconds(model.timeout)
    action.idle_timeout = seconds(model.idle_timeout)
    action.retry_policy = _retry_policy(model.retries)
    if model.websocket:
        action.upgrade_configs = [RouteActionUpgradeConfig(upgrade_type="websocket", enabled=True)]
    metadata = limits.metadata(name, model)
    return Route(name=name, match=match, route=action, metadata=metadata)


def _action() -> RouteAction:
    return RouteAction(
        cluster_header=CLUSTER_HEADER,
        cluster_not_found_response_code=RouteActionClusterNotFoundResponseCode.SERVICE_UNAVAILABLE,
    )


def _retry_policy(retries: Retries) -> RetryPolicy | None:
    if retries.attempts == 0:
        return None
    per_try = retries.per_try_timeout
    return RetryPolicy(
        retry_on=",".join(retries.on),
        num_retries=retries.attempts,
        per_try_timeout=seconds(per_try) if per_try is not None else None,
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=pack(PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=3,
    )
