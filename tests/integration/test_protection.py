"""Through a real Envoy and two workers: limits hold over both, failing versions are spared."""

import json
import time
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
        # On a slow machine one late answer would have the backend shown as down.
        "backend": {"timeout": "5s"},
        "rules": [
            {
                "name": "per-subject",
                "key": ["subject"],
                "match": [{"part": "header:x-limited", "values": ["yes"]}],
                "rate": 10,
                "per": "hour",
            }
        ],
    }
    settings["models"]["echo"]["breaker"] = BREAKER
    return settings


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    with running(config()) as gateway:
        yield gateway


def control(gateway: Gateway, **faults: float) -> None:
    """Have the model server fail, or heal."""
    endpoint = gateway.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"]
    httpx.post(f"http://{endpoint}/control", json=faults).raise_for_status()


def ask(client: httpx.Client, subject: str, **headers: str) -> httpx.Response:
    return client.post(PATH, json={}, headers={**bearer(subject), **headers})


def test_a_subjects_limit_holds_over_all_workers_and_concerns_nobody_else(own: Gateway) -> None:
    with own.client() as client:
        answers = [ask(client, "noisy", **{"x-limited": "yes"}) for _ in range(30)]
        assert [answer.status_code for answer in answers].count(200) == 10
        refused = answers[-1]
        assert refused.status_code == 429
        assert refused.json()["reason"] == "rate_limited"
        assert int(refused.headers["retry-after"]) > 0
        assert ask(client, "quiet", **{"x-limited": "yes"}).status_code == 200
        assert ask(client, "noisy").status_code == 200


def test_an_admitted_request_is_told_what_is_left(own: Gateway) -> None:
    with own.client() as client:
        answer = ask(client, "curious", **{"x-limited": "yes"})
    assert answer.headers["ratelimit"].startswith('"per-subject";r=9;t=')
    assert answer.headers["ratelimit-policy"] == '"per-subject";q=10;w=3600'


def test_a_limit_changes_without_a_restart_and_forgets_nothing(own: Gateway) -> None:
    with own.client() as client:
        for _ in range(10):
            assert ask(client, "patient", **{"x-limited": "yes"}).status_code == 200
        assert ask(client, "patient", **{"x-limited": "yes"}).status_code == 429
        own.edit(lambda settings: settings["limits"]["rules"][0].update(rate=20, burst=20))
        eventually(lambda: ask(client, "fresh", **{"x-limited": "yes"}).status_code == 200)


def test_a_failing_version_is_refused_and_comes_back_when_it_has_healed(own: Gateway) -> None:
    with own.client() as client:

        def reasons(count: int) -> list[str]:
            found = (ask(client, "anyone") for _ in range(count))
            return ["" if a.status_code == 200 else a.json().get("reason", "") for a in found]

        control(own, fail_rate=0.5)
        began = time.monotonic()
        eventually(lambda: "breaker_open" in reasons(10), 5)
        assert time.monotonic() - began < 4
        eventually(lambda: reasons(20).count("breaker_open") >= 18, 5)
        refused = next(
            a for a in (ask(client, "anyone") for _ in range(20)) if a.status_code == 503
        )
        assert int(refused.headers["retry-after"]) >= 1
        control(own, fail_rate=0)
        eventually(lambda: reasons(20) == [""] * 20, 10)


def test_the_status_shows_a_failing_version_open_and_closed_when_it_has_healed(
    own: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{own.config['control_plane']['http']}"

    def shown() -> list[str]:
        assert main(["status", "--url", url]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(line.split() for line in lines if line.startswith("echo/v1"))

    def breakers() -> dict[str, Any]:
        assert main(["status", "--url", url, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["callout"]
        assert found["error"] is None
        return {f"{b['model']}/{b['version']}": b for b in found["breakers"]}

    with own.client() as client:
        control(own, fail_rate=1.0)
        eventually(lambda: ask(client, "anyone").status_code == 503 and shown()[1] == "open", 20)
        found = breakers()
        assert found["echo/v1"]["state"] == "open"
        assert found["echo/v1"]["requests"] > 0
        assert (found["echo/v2"]["state"], found["echo/v2"]["error_rate"]) == ("closed", None)
        control(own, fail_rate=0)
        eventually(lambda: ask(client, "anyone").status_code == 200 and shown()[1] == "closed", 20)


def test_a_slow_but_healthy_version_is_never_broken(own: Gateway) -> None:
    control(own, delay_ms=50)
    with own.client() as client:
        assert {ask(client, "anyone").status_code for _ in range(60)} == {200}
    control(own, delay_ms=0)


def test_the_metrics_show_what_the_rules_and_the_breaker_do(own: Gateway) -> None:
    def metrics() -> str:
        address = own.config["telemetry"]["metrics"]["address"]
        return httpx.get(f"http://{address}/metrics").text

    def shown(line: str) -> bool:
        return f"{line}\n" in metrics()

    with own.client() as client:
        for _ in range(3):
            ask(client, "measured", **{"x-limited": "yes"})
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
