"""With a real Envoy and two workers: workers share limits, and the breaker refuses requests."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from sluice.cli import main
from tests.integration.gateway import Config, Gateway, base_config, bearer, eventually, running

PATH = "/v2/models/echo/x"
BREAKER = {"window": "2s", "buckets": 20, "min_volume": 20, "probe_successes": 5}


def config() -> Config:
    settings = base_config()
    settings["limits"] = {
        "listener": None,
        # On a slow machine, one late response would show the backend as unavailable.
        "backend": {"timeout": "5s"},
        "rules": [
            {
                "name": "per-subject",
                "key": ["subject"],
                "match": [{"part": "header:x-limited", "values": ["yes"]}],
                "rate": 10,
                "per": "hour",
            },
            {
                "name": "per-address",
                "key": ["client_address"],
                "match": [{"part": "header:x-limited", "values": ["address"]}],
                "rate": 3,
                "per": "hour",
            },
        ],
    }
    settings["models"]["echo"]["breaker"] = BREAKER
    return settings


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    with running(config()) as gateway:
        yield gateway


def control(gateway: Gateway, **faults: float) -> None:
    """Set the error rate or the delay of the model server."""
    endpoint = gateway.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"]
    httpx.post(f"http://{endpoint}/control", json=faults).raise_for_status()


def send(client: httpx.Client, subject: str, **headers: str) -> httpx.Response:
    return client.post(PATH, json={}, headers={**bearer(subject), **headers})


def test_a_subject_has_one_budget_in_all_workers_and_others_have_their_own(own: Gateway) -> None:
    with own.client() as client:
        responses = [send(client, "noisy", **{"x-limited": "yes"}) for _ in range(30)]
        assert [response.status_code for response in responses].count(200) == 10
        refused = responses[-1]
        assert refused.status_code == 429
        assert refused.json()["reason"] == "rate_limited"
        assert int(refused.headers["retry-after"]) > 0
        assert send(client, "quiet", **{"x-limited": "yes"}).status_code == 200
        assert send(client, "noisy").status_code == 200


@pytest.mark.parametrize("name", ["x-envoy-external-address", "x-forwarded-for", "x-real-ip"])
def test_a_client_cannot_choose_its_address(own: Gateway, name: str) -> None:
    """The address also names the caller of an anonymous request for conversion threads."""
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(base_url=own.url, timeout=30, transport=transport) as client:
        statuses = [
            send(client, "s", **{"x-limited": "address", name: f"203.0.113.{n}"}).status_code
            for n in range(8)
        ]
    assert statuses.count(200) <= 3


def test_a_response_reports_the_remaining_tokens(own: Gateway) -> None:
    with own.client() as client:
        response = send(client, "curious", **{"x-limited": "yes"})
    assert response.headers["ratelimit"].startswith('"per-subject";r=9;t=')
    assert response.headers["ratelimit-policy"] == '"per-subject";q=10;w=3600'


def test_a_limit_changes_without_a_restart_and_keeps_its_budgets(own: Gateway) -> None:
    with own.client() as client:
        for _ in range(10):
            assert send(client, "patient", **{"x-limited": "yes"}).status_code == 200
        assert send(client, "patient", **{"x-limited": "yes"}).status_code == 429
        own.edit(lambda settings: settings["limits"]["rules"][0].update(rate=20, burst=20))

        def policy() -> str:
            return send(client, "fresh", **{"x-limited": "yes"}).headers["ratelimit-policy"]

        eventually(lambda: policy() == '"per-subject";q=20;w=3600')
        assert send(client, "patient", **{"x-limited": "yes"}).status_code == 429


def test_a_failing_version_is_refused_until_it_has_recovered(own: Gateway) -> None:
    with own.client() as client:

        def reasons(count: int) -> list[str]:
            responses = (send(client, "anyone") for _ in range(count))
            return ["" if r.status_code == 200 else r.json().get("reason", "") for r in responses]

        control(own, fail_rate=0.5)
        eventually(lambda: "breaker_open" in reasons(10), 20)
        eventually(lambda: reasons(20).count("breaker_open") >= 18, 20)
        responses = (send(client, "anyone") for _ in range(20))
        refused = next(response for response in responses if response.status_code == 503)
        assert int(refused.headers["retry-after"]) >= 1
        control(own, fail_rate=0)
        eventually(lambda: reasons(20) == [""] * 20, 20)


def test_the_status_shows_when_a_breaker_opens_and_closes(
    own: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{own.config['control_plane']['http']}"

    def shown() -> bool:
        """Whether the text has an open breaker. It has only those that are not closed."""
        assert main(["status", "--url", url]) == 0
        lines = capsys.readouterr().out.splitlines()
        return any(line.split()[:2] == ["echo/v1", "open"] for line in lines)

    def breakers() -> dict[str, Any]:
        assert main(["status", "--url", url, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["callout"]
        assert found["error"] is None
        return {f"{b['model']}/{b['version']}": b for b in found["breakers"]}

    with own.client() as client:
        control(own, fail_rate=1.0)
        eventually(lambda: send(client, "anyone").status_code == 503 and shown(), 20)
        found = breakers()
        assert found["echo/v1"]["state"] == "open"
        assert found["echo/v1"]["requests"] > 0
        assert (found["echo/v2"]["state"], found["echo/v2"]["error_rate"]) == ("closed", None)
        control(own, fail_rate=0)
        eventually(lambda: send(client, "anyone").status_code == 200 and not shown(), 20)


def test_a_slow_version_without_failures_is_never_refused(own: Gateway) -> None:
    control(own, delay_ms=50)
    with own.client() as client:
        assert {send(client, "anyone").status_code for _ in range(60)} == {200}
    control(own, delay_ms=0)


def test_the_metrics_show_rules_and_breakers(own: Gateway) -> None:
    def metrics() -> str:
        address = own.config["telemetry"]["metrics"]["address"]
        return httpx.get(f"http://{address}/metrics").text

    def shown(line: str) -> bool:
        return f"{line}\n" in metrics()

    with own.client() as client:
        for _ in range(3):
            send(client, "measured", **{"x-limited": "yes"})
    eventually(
        lambda: 'sluice_limit_requests_total{rule="per-subject",verdict="admitted"}' in metrics()
    )
    eventually(lambda: 'sluice_breaker_state{model="echo",version="v1"} 0.0' in metrics())
    for line in (
        "sluice_breaker_unprotected_versions 0.0",
        "sluice_limit_backend_up 1.0",
        "sluice_limit_evictions_total 0.0",
        "sluice_conversions_pending 0.0",
    ):
        eventually(partial(shown, line))
