"""What the gateway says of itself, in the paths of the Open Inference Protocol for a server.

Envoy answers without the callout, and without credentials: the answers name no model. A model whose
`paths` contain such a path gets its requests instead.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.v3 import Percent

from protos.core_pb2 import DataSource
from protos.route_pb2 import DirectResponseAction, Route, RouteMatch
from sluice.config import GatewayConfig
from sluice.contract.names import CALLOUT_CLUSTER, OTHER
from sluice.contract.paths import LIVE, READY, SERVER_METADATA
from sluice.version import USER_AGENT
from xds.resources import proto_messages
from xds.resources.data_plane_messages import pack

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

    Envoy omits it from requests with another route than that of the readiness. A worker is healthy
    when it has a policy. The filter also answers 503 while Envoy drains, or
    after `POST /healthcheck/fail` of Envoy's admin interface.
    """
    check = HealthCheck(
        pass_through_mode=False,
        cluster_min_healthy_percentages={CALLOUT_CLUSTER: Percent(value=ANY_WORKER)},
    )
    return HttpFilter(name=_READINESS_FILTER, typed_config=pack(check), disabled=True)


_READINESS_FILTER: Final = "envoy.filters.http.health_check"


def answers_readiness(config: GatewayConfig) -> bool:
    """Whether the path of the readiness belongs to no model."""
    paths = (path for model in config.models.values() for path in model.paths)
    return not any(path == READY or READY.startswith(f"{path}/") for path in paths)


def routes(decision_filters: list[str], limit_filters: list[str]) -> Iterator[Route]:
    """The routes for liveness, metadata and readiness. They come after the routes of models.

    The filters have these names. A flood must not make a probe of the liveness fail, so it has no
    limit.
    """
    yield _route(LIVE, LIVE_ANSWER, [*decision_filters, *limit_filters])
    yield _route(SERVER_METADATA, server_metadata(), decision_filters)
    yield Route(
        name=OTHER,
        match=RouteMatch(path=READY),
        # The filter answers before Envoy comes to this.
        direct_response=DirectResponseAction(status=503),
        typed_per_filter_config={_READINESS_FILTER: proto_messages.enabled()},
    )


def _route(path: str, answer: Mapping[str, object], disabled: list[str]) -> Route:
    return Route(
        name=OTHER,
        match=RouteMatch(path=path),
        direct_response=DirectResponseAction(
            status=200, body=DataSource(inline_string=json.dumps(answer))
        ),
        response_headers_to_add=[proto_messages.header("content-type", "application/json")],
        typed_per_filter_config=dict.fromkeys(disabled, proto_messages.disabled()),
    )
