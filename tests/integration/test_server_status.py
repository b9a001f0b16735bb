"""What the gateway says of itself: liveness, readiness and metadata."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import plain_http
from tests.integration.gateway import Gateway, base_config, eventually, running

LIVE, READY, METADATA = "/v2/health/live", "/v2/health/ready", "/v2"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway whose only model needs credentials. Its listener admits one request a second."""
    settings = base_config()
    settings["limits"] = {"listener": {"rate": 1, "burst": 1}, "address_share": 1}
    with running(settings) as started:
        yield started


@pytest.mark.parametrize(("path", "answer"), [(LIVE, {"live": True}), (READY, {"ready": True})])
def test_a_stranger_may_ask_for_the_health_at_any_rate(
    client: httpx.Client, path: str, answer: dict[str, bool]
) -> None:
    for suffix in ("", "?a=b"):
        for _ in range(3):
            response = client.get(path + suffix)
            assert (response.status_code, response.json()) == (200, answer)
            assert response.headers["content-type"] == "application/json"
    assert (client.head(path).status_code, client.head(path).content) == (200, b"")


def test_probes_have_a_reason_of_their_own_in_the_metrics(gateway: Gateway) -> None:
    with gateway.client() as client:
        for path in (LIVE, READY):
            client.get(path).raise_for_status()
    address = gateway.config["telemetry"]["metrics"]["address"]
    series = 'sluice_requests_total{model="other",reason="gateway_status"'
    eventually(lambda: series in plain_http.get(f"http://{address}/metrics").text)
    assert 'reason="gateway_error"' not in plain_http.get(f"http://{address}/metrics").text


def test_the_metadata_name_no_model(gateway: Gateway) -> None:
    gateway.edit(lambda config: config["limits"].update(listener=None))
    with gateway.client() as client:
        response = client.get(METADATA)
    assert response.status_code == 200
    assert set(response.json()) == {"name", "version", "extensions"}
    assert "echo" not in response.text


def test_a_model_with_such_a_path_gets_its_requests(gateway: Gateway) -> None:
    gateway.edit(lambda config: config["models"]["echo"].update(paths=["/v2"]))
    with gateway.client() as client:
        for path in (LIVE, READY, METADATA):
            assert client.get(path).json()["reason"] == "unauthenticated"
    gateway.edit(lambda config: config["models"]["echo"].pop("paths"))


def test_without_workers_the_gateway_is_live_but_not_ready(gateway: Gateway) -> None:
    workers = gateway.workers()
    # Without its supervisor, a worker that hangs is not replaced.
    supervisor = int(Path(f"/proc/{workers[0]}/stat").read_text().rpartition(")")[2].split()[1])
    stopped = [supervisor, *workers]
    with gateway.client() as client:
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            eventually(lambda: client.get(READY).status_code == 503)
            problem = client.get(READY).json()
            assert (problem["reason"], problem["status"]) == ("not_ready", 503)
            assert problem["error"] == problem["detail"]
            assert client.get(LIVE).json() == {"live": True}
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        eventually(lambda: client.get(READY).status_code == 200)
