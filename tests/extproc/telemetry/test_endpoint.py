"""The supervisor's HTTP server checks the Host header, and the secret of profiles."""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import httpx
import pytest
from prometheus_client import CollectorRegistry

from extproc.telemetry.endpoint import EndpointSettings, application
from extproc.telemetry.profile import Profiler
from extproc.telemetry.status import CalloutStatus
from sluice.http.server import serve_in_thread
from tests import plain_http

SECRET = "0123456789abcdef"
READY = Event()
AUTHORIZATION = {"authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    secret = Path(tmp_path_factory.mktemp("endpoint")) / "secret"
    secret.write_text(SECRET)
    settings = EndpointSettings("Callout.internal:9902", secret, ("gateway.internal",))
    app = application(
        settings,
        CollectorRegistry(),
        lambda: CalloutStatus([], 0),
        Profiler(lambda _: None),
        READY.is_set,
    )
    with (
        serve_in_thread(app, "127.0.0.1:0", max_requests=20) as address,
        plain_http.client(base_url=f"http://{address}") as client,
    ):
        yield client


def get(client: httpx.Client, path: str, host: str) -> httpx.Response:
    return client.get(path, headers={"host": host, **AUTHORIZATION})


@pytest.mark.parametrize("path", ["/v1/status", "/debug/profile"])
@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:9902", "a.localhost.b", ""])
def test_status_and_profiles_are_refused_to_other_hosts(
    client: httpx.Client, path: str, host: str
) -> None:
    response = get(client, path, host)
    assert response.status_code == 421
    assert "telemetry.metrics.allowed_hosts" in response.text


@pytest.mark.parametrize(
    "host", ["localhost:9902", "127.0.0.1", "callout.internal:9902", "Gateway.internal", "[::1]:1"]
)
def test_status_and_profiles_are_served_to_the_servers_host_names(
    client: httpx.Client, host: str
) -> None:
    status = get(client, "/v1/status", host).json()
    assert status == {"workers": [], "breakers": [], "unprotected": 0, "key_sets": []}
    # 404 shows that the request passed the guard: there is no worker to profile.
    assert get(client, "/debug/profile", host).status_code == 404


def test_profiles_need_the_secret_with_any_host(client: httpx.Client) -> None:
    assert client.get("/debug/profile", headers={"host": "localhost"}).status_code == 401


@pytest.mark.parametrize("path", ["/dev/zero", "/nonexistent", "pipe"])
def test_a_secret_file_that_is_not_a_small_regular_file_authorizes_nobody(
    path: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    settings = EndpointSettings("127.0.0.1:0", tmp_path / path)
    app = application(
        settings,
        CollectorRegistry(),
        lambda: CalloutStatus([], 0),
        Profiler(lambda _: None),
        READY.is_set,
    )
    with serve_in_thread(app, "127.0.0.1:0", max_requests=20) as address:
        response = plain_http.get(f"http://{address}/debug/profile", headers=AUTHORIZATION)
    assert response.status_code == 401


def test_metrics_are_served_to_any_host(client: httpx.Client) -> None:
    assert get(client, "/metrics", "callout.monitoring.svc").status_code == 200


@pytest.mark.parametrize("host", ["10.1.2.3:9902", "rebound.example", ""])
def test_probes_need_no_credentials(client: httpx.Client, host: str) -> None:
    READY.clear()
    assert client.get("/healthz", headers={"host": host}).status_code == 200
    assert client.get("/readyz", headers={"host": host}).status_code == 503
    READY.set()
    assert client.get("/readyz", headers={"host": host}).status_code == 200
