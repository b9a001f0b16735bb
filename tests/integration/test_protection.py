"""With a real Envoy and two workers: workers share limits.

Only the callout enforces fleet-wide limits, so it decides all requests of these models.
"""

from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from tests import plain_http
from tests.integration.gateway import Config, Gateway, base_config, bearer, eventually, running

PATH = "/v2/models/echo/x"


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
    return settings


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    with running(config()) as gateway:
        yield gateway


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
    transport = httpx.HTTPTransport(verify=False, local_address="127.0.0.9")
    with plain_http.client(base_url=own.url, timeout=30, transport=transport) as client:
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


def test_the_metrics_show_rules_and_breakers(own: Gateway) -> None:
    def metrics() -> str:
        address = own.config["telemetry"]["metrics"]["address"]
        return plain_http.get(f"http://{address}/metrics").text

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
