"""Profiles of the workers of a gateway with a real Envoy.

The callout decides all requests, so that the workers have something to do.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.cli import main
from tests import plain_http
from tests.integration.gateway import INFER, Gateway, base_config, bearer, running
from tests.integration.load import Load
from tests.integration.test_telemetry import callout_url

SECRET = "profile-secret-0123456789"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    secret = tmp_path_factory.mktemp("profiles") / "secret"
    secret.write_text(f"{SECRET}\n")
    config = base_config("callout")
    config["telemetry"]["profile"] = {"secret_file": str(secret)}
    with running(config) as gateway:
        yield gateway


def test_a_running_worker_is_profiled_without_a_failed_request(
    gateway: Gateway, tmp_path: Path
) -> None:
    workers = gateway.workers()
    graph, file = tmp_path / "flame.svg", tmp_path / "profile.json"
    headers = {"content-type": "application/json", **bearer()}
    with Load(gateway.config["listener"]["address"], INFER, headers) as load:
        load.wait_for(10)
        for output in (graph, file):
            arguments = ["--seconds", "1", "--worker", "1", "--output", str(output)]
            assert main(["profile", str(gateway.file), *arguments]) == 0
    assert load.failures == []
    assert "<svg" in graph.read_text()
    # The bottom of every stack. The functions above it differ from run to run.
    assert "Runner.run (asyncio/runners.py" in graph.read_text()
    assert json.loads(file.read_text())["$schema"].startswith("https://www.speedscope.app/")
    assert gateway.workers() == workers


def test_a_profile_needs_the_secret(gateway: Gateway) -> None:
    url = callout_url(gateway, "/debug/profile")
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {SECRET}"}):
        response = plain_http.get(url, headers=header)
        assert response.status_code == 401
        assert "www-authenticate" in response.headers


def test_invalid_profile_requests_are_refused(gateway: Gateway) -> None:
    url = callout_url(gateway, "/debug/profile")
    headers = {"authorization": f"Bearer {SECRET}"}
    for query in ("seconds=61", "seconds=0", "seconds=-1", "format=exe", "worker=x"):
        assert plain_http.get(f"{url}?{query}", headers=headers).status_code == 400
    assert plain_http.get(f"{url}?worker=7", headers=headers).status_code == 404
