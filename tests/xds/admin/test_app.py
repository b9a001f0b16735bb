"""The admin HTTP server shows its API only to requests for its own host, and not to web pages."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.contract.problem import MEDIA_TYPE
from tests.xds.admin.plane import Plane, config_file, plane
from xds.candidate.start import StartOptions
from xds.sources.store.sqlite import SqliteStore

TEXT = """\
control_plane:
  {http: "control.internal:8081", allowed_hosts: [Gateway.internal], allow_insecure: true}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    file = config_file(tmp_path_factory.mktemp("plane"), TEXT)
    with plane(StartOptions(file, "memory"), SqliteStore()) as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/status", "/v1/config", "/v1/events", "/v1/nothing"])
def test_a_request_for_another_host_is_refused(api: Plane, path: str) -> None:
    for host in ("rebound.example", "rebound.example:8081", "a.gateway.internal", ""):
        response = api.get(path, host=host)
        assert response.status_code == 421
        assert response.headers["content-type"] == MEDIA_TYPE
        assert response.json()["reason"] == "unknown_host"
        assert "control_plane.allowed_hosts" in response.json()["detail"]
    for host in ("localhost:8081", "127.0.0.1", "control.internal:8081", "GATEWAY.internal"):
        assert api.client.head(path, headers={"host": host}).status_code != 421


def test_probes_metrics_and_the_document_are_public(api: Plane) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/v1/openapi.json"):
        assert api.get(path, host="gateway.monitoring.svc").status_code == 200


def test_a_web_page_of_another_origin_can_change_nothing(api: Plane) -> None:
    for operation in api.operations:
        if operation.method != "GET":
            path = operation.path.replace("{", "").replace("}", "")
            response = api.send(operation.method, path, origin="http://rebound.example")
            assert (response.status_code, response.json()["reason"]) == (403, "foreign_page")


def test_every_operation_needs_its_role(tmp_path: Path) -> None:
    tokens = "".join(
        f"{{name: {name}, role: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}, "
        for name in ("reader", "operator")
    )
    file = config_file(tmp_path, f"control_plane: {{access: {{tokens: [{tokens}]}}}}\n")
    with plane(StartOptions(file, "memory"), SqliteStore()) as api:
        statuses: dict[tuple[str | None, str], set[int]] = defaultdict(set)
        for operation in api.operations:
            path = operation.path.replace("{", "").replace("}", "")
            method = "HEAD" if path == "/v1/events" else operation.method
            for name in ("stranger", "reader", "operator"):
                found = api.send(method, path, authorization=f"Bearer {name}").status_code
                statuses[operation.role, name].add(found)
        assert statuses[None, "stranger"] == {200}
        assert statuses["reader", "stranger"] == statuses["operator", "stranger"] == {401}
        assert 403 not in statuses["reader", "reader"]
        assert statuses["operator", "reader"] == {403}
        assert not statuses["operator", "operator"] & {401, 403}
        api.send("PUT", "/v1/limits", {"headers": False}, authorization="Bearer operator")
        listed = api.get("/v1/history?limit=1", authorization="Bearer reader").json()
        assert listed["revisions"][0]["author"] == "operator"
