"""The callout's HTTP tells its status to who asks for it by a name of its own."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from extproc.telemetry.endpoint import EndpointSettings, application
from extproc.telemetry.profile import Profiler
from extproc.telemetry.status import CalloutStatus
from sluice.http.server import serving

SECRET = "0123456789abcdef"
PATHS = ["/v1/status", "/debug/profile"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    secret = Path(tmp_path_factory.mktemp("endpoint")) / "secret"
    secret.write_text(SECRET)
    settings = EndpointSettings("Callout.internal:9902", secret, ("gateway.internal",))
    app = application(
        CollectorRegistry(),
        lambda: CalloutStatus([], 0),
        Profiler(lambda _: None),
        settings.secret_file,
        settings.names,
    )
    with (
        serving(app, "127.0.0.1:0", max_requests=20) as address,
        httpx.Client(base_url=f"http://{address}") as client,
    ):
        yield client


def asked(client: httpx.Client, path: str, host: str) -> httpx.Response:
    return client.get(path, headers={"host": host, "authorization": f"Bearer {SECRET}"})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:9902", "a.localhost.b", ""])
def test_a_page_that_led_its_name_here_is_told_nothing(
    client: httpx.Client, path: str, host: str
) -> None:
    answer = asked(client, path, host)
    assert answer.status_code == 421
    assert "telemetry.metrics.allowed_hosts" in answer.text


@pytest.mark.parametrize(
    "host", ["localhost:9902", "127.0.0.1", "callout.internal:9902", "Gateway.internal", "[::1]:1"]
)
def test_who_asks_by_a_name_of_its_own_is_answered(client: httpx.Client, host: str) -> None:
    assert asked(client, "/v1/status", host).json() == {"breakers": [], "unprotected": 0}
    # There is no worker to look into: whoever knows the secret is told so.
    assert asked(client, "/debug/profile", host).status_code == 404


def test_no_name_stands_for_the_secret(client: httpx.Client) -> None:
    assert client.get("/debug/profile", headers={"host": "localhost"}).status_code == 401


def test_scrapes_come_by_any_name(client: httpx.Client) -> None:
    assert asked(client, "/metrics", "callout.monitoring.svc").status_code == 200
