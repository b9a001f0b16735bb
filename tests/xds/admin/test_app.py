"""The admin HTTP server is read only, and shows its status only to requests for its own host."""

import time
from collections.abc import Iterator

import httpx
import pytest

from sluice.config import GatewayConfig
from sluice.http.server import serve_in_thread
from tests import plain_http
from xds.admin.app import application
from xds.admin.metrics import StateCollector
from xds.admin.status import ControlPlaneState
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    settings = {"http": "control.internal:8081", "allowed_hosts": ["Gateway.internal"]}
    config = GatewayConfig.model_validate({"control_plane": settings})
    nodes = Nodes(time.time)
    state = ControlPlaneState(
        "gateway.yaml", CompiledConfig(config, EMPTY), nodes, Rollout(nodes, 1.0)
    )
    app = application(state, StateCollector(state, nodes))
    with (
        serve_in_thread(app, "127.0.0.1:0", max_requests=20) as address,
        plain_http.client(base_url=f"http://{address}") as client,
    ):
        yield client


@pytest.mark.parametrize("path", ["/v1/status", "/v1/config"])
def test_a_request_for_another_host_is_refused(client: httpx.Client, path: str) -> None:
    for host in ("rebound.example", "rebound.example:8081", "a.gateway.internal", ""):
        response = client.get(path, headers={"host": host})
        assert response.status_code == 421
        assert "control_plane.allowed_hosts" in response.text
    for host in ("localhost:8081", "127.0.0.1", "control.internal:8081", "GATEWAY.internal"):
        assert client.get(path, headers={"host": host}).status_code == 200


def test_probes_and_metrics_are_served_for_any_host(client: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path, headers={"host": "gateway.monitoring.svc"}).status_code == 200


def test_no_request_can_change_anything(client: httpx.Client) -> None:
    for path in ("/v1/status", "/v1/config"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            response = client.request(method, path, headers={"origin": "http://rebound.example"})
            assert response.status_code == 405
