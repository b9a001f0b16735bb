"""What the gateway says of itself, in the paths of the Open Inference Protocol for a server.

Envoy answers without the callout, and without credentials: the answers name no model. A model whose
`paths` contain such a path gets its requests instead.
"""

import json
from collections.abc import Iterator, Mapping

from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import Percent

from protos.core_pb2 import DataSource
from protos.route_pb2 import DirectResponseAction, FilterConfig, Route, RouteMatch
from sluice.config import GatewayConfig
from sluice.contract.names import CALLOUT_CLUSTER, OTHER
from sluice.contract.paths import LIVE, READY, SERVER_METADATA
from sluice.user_agent import USER_AGENT
from xds.resources import model_messages
from xds.resources.messages import pack

ANY_WORKER = 1
"""Percentage of healthy workers from which the gateway is ready. Envoy compares whole percents. A
gateway has at most 64 workers, so one of them is enough."""

LIVE_ANSWER = {"live": True}
READY_ANSWER = {"ready": True}


def server_metadata() -> Mapping[str, object]:
    """The metadata of the gateway. It has the members of the protocol."""
    name, _, version = USER_AGENT.partition("/")
    return {"name": name, "version": version, "extensions": []}


def readiness_filter() -> HttpFilter:
    """Answers requests for readiness: 200 if a worker of the callout is healthy, else 503.

    A worker is healthy when it has a policy. The filter also answers 503 while Envoy drains, or
    after `POST /healthcheck/fail` of Envoy's admin interface.
    """
    path = RegexMatcher(regex=rf"{READY}(\?.*)?")
    check = HealthCheck(
        pass_through_mode=False,
        headers=[HeaderMatcher(name=":path", string_match=StringMatcher(safe_regex=path))],
        cluster_min_healthy_percentages={CALLOUT_CLUSTER: Percent(value=ANY_WORKER)},
    )
    return HttpFilter(name="envoy.filters.http.health_check", typed_config=pack(check))


def answers_readiness(config: GatewayConfig) -> bool:
    """Whether the path of the readiness belongs to no model."""
    paths = (path for model in config.models.values() for path in model.paths)
    return not any(path == READY or READY.startswith(f"{path}/") for path in paths)


def routes(decision_filters: list[str], limit_filters: list[str]) -> Iterator[Route]:
    """The routes for liveness and metadata. They come after the routes of models.

    The filters have these names. A flood must not make a probe of the liveness fail, so it has no
    limit.
    """
    yield _route(LIVE, LIVE_ANSWER, [*decision_filters, *limit_filters])
    yield _route(SERVER_METADATA, server_metadata(), decision_filters)


def _route(path: str, answer: Mapping[str, object], disabled: list[str]) -> Route:
    off = model_messages.pack(FilterConfig(disabled=True))
    return Route(
        name=OTHER,
        match=RouteMatch(path=path),
        direct_response=DirectResponseAction(
            status=200, body=DataSource(inline_string=json.dumps(answer))
        ),
        response_headers_to_add=[model_messages.header("content-type", "application/json")],
        typed_per_filter_config=dict.fromkeys(disabled, off),
    )
