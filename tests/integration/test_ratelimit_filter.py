"""The workers of a running gateway limit an Envoy that has only the `ratelimit` filter."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from sluice.config.load import load
from tests import plain_http
from tests.integration.gateway import (
    Config,
    Gateway,
    base_config,
    eventually,
    free_ports,
    running,
)
from tests.integration.ratelimit_envoy import DOMAIN, running_envoy


def descriptors() -> list[Config]:
    hour = {"unit": "hour", "requests_per_unit": 5}
    return [
        {"key": "subject", "rate_limit": hour},
        {"key": "subject", "value": "batch", "rate_limit": {"unlimited": True}},
        {"key": "path", "value": "/v2/*", "rate_limit": {"unit": "day", "requests_per_unit": 3}},
        {"key": "trial", "shadow_mode": True, "rate_limit": {**hour, "requests_per_unit": 1}},
        {
            "key": "user",
            "descriptors": [
                {"key": "model", "rate_limit": {**hour, "requests_per_unit": 4}},
                {
                    "key": "model",
                    "value": "heavy",
                    "rate_limit": {**hour, "requests_per_unit": 2, "name": "heavy"},
                },
            ],
        },
        {"key": "special", "rate_limit": {**hour, "requests_per_unit": 3, "replaces": ["heavy"]}},
        {"key": "charged", "rate_limit": {**hour, "requests_per_unit": 10}},
        {"key": "checked", "rate_limit": {**hour, "requests_per_unit": 10}},
        {"key": "quota_a", "quota_mode": True, "rate_limit": {**hour, "requests_per_unit": 2}},
        {"key": "quota_b", "quota_mode": True, "rate_limit": {**hour, "requests_per_unit": 4}},
    ]


def config() -> Config:
    settings = base_config()
    settings["limits"]["domains"] = {DOMAIN: {"descriptors": descriptors()}}
    return settings


@dataclass
class LimitedEnvoy:
    """An Envoy with the filter, and the gateway whose rate limit service it calls."""

    gateway: Gateway
    client: httpx.Client

    def statuses(self, times: int, **headers: str) -> list[int]:
        named = {f"x-{name.replace('_', '-')}": value for name, value in headers.items()}
        return [self.client.get("/", headers=named).status_code for _ in range(times)]


@pytest.fixture(scope="module")
def limited() -> Iterator[LimitedEnvoy]:
    with running(config()) as gateway:
        addresses = load(gateway.file).callout.addresses()
        with running_envoy(addresses) as (_, strict):
            yield LimitedEnvoy(gateway, strict)


def fresh() -> str:
    """Return a value that no request has had, so its budget is not used."""
    return secrets.token_hex(8)


def test_each_value_of_a_key_has_its_own_budget(limited: LimitedEnvoy) -> None:
    for _ in range(2):
        assert limited.statuses(7, subject=fresh()) == [200] * 5 + [429] * 2


def test_a_request_without_a_matching_descriptor_is_not_limited(limited: LimitedEnvoy) -> None:
    assert limited.statuses(20) == [200] * 20
    assert limited.statuses(20, path=f"/v1/{fresh()}") == [200] * 20


def test_a_value_can_be_unlimited(limited: LimitedEnvoy) -> None:
    assert limited.statuses(20, subject="batch") == [200] * 20


def test_a_pattern_limits_each_value_that_matches_separately(limited: LimitedEnvoy) -> None:
    for _ in range(2):
        assert limited.statuses(4, path=f"/v2/{fresh()}") == [200] * 3 + [429]


def test_nested_descriptors_have_their_own_limits(limited: LimitedEnvoy) -> None:
    user = fresh()
    assert limited.statuses(3, user=user, model="heavy") == [200] * 2 + [429]
    assert limited.statuses(5, user=user, model="light") == [200] * 4 + [429]


def test_a_limit_can_replace_another(limited: LimitedEnvoy) -> None:
    user, special = fresh(), fresh()
    assert limited.statuses(4, user=user, model="heavy", special=special) == [200] * 3 + [429]
    assert limited.statuses(3, user=user, model="heavy") == [200] * 2 + [429]


def test_shadow_mode_counts_and_admits(limited: LimitedEnvoy) -> None:
    assert limited.statuses(4, trial=fresh()) == [200] * 4
    address = limited.gateway.config["telemetry"]["metrics"]["address"]
    name = f'limit="{DOMAIN}.trial",verdict="shadow_mode"'
    line = f"sluice_ratelimit_hits_total{{{name}}} 3.0"
    eventually(lambda: line in plain_http.get(f"http://{address}/metrics").text)


def test_a_request_can_set_its_own_hits(limited: LimitedEnvoy) -> None:
    charged = fresh()
    assert limited.statuses(3, charged=charged, hits="4") == [200, 200, 429]
    assert limited.statuses(1, charged=charged, hits="1") == [429]


def test_a_request_can_be_checked_first_and_counted_after_its_response(
    limited: LimitedEnvoy,
) -> None:
    checked = fresh()
    assert limited.statuses(2, checked=checked, hits="6") == [200, 200]
    # Envoy does not wait for the response to the second call.
    eventually(lambda: limited.statuses(1, checked=checked, hits="1") == [429])


def test_quotas_refuse_when_all_are_used_up(limited: LimitedEnvoy) -> None:
    quotas = {"quota_a": fresh(), "quota_b": fresh()}
    assert limited.statuses(6, **quotas) == [200] * 4 + [429] * 2


def test_responses_report_the_limit_and_the_remaining_hits(limited: LimitedEnvoy) -> None:
    subject = {"x-subject": fresh()}
    first = limited.client.get("/", headers=subject)
    assert first.headers["ratelimit-limit"] == "5"
    assert first.headers["ratelimit-remaining"] == "4"
    assert 0 < int(first.headers["ratelimit-reset"]) <= 3600
    assert first.headers["x-ratelimit-limit"] == "5, 5;w=3600"
    assert first.headers["x-ratelimit-remaining"] == "4"
    assert 0 < int(first.headers["x-ratelimit-reset"]) <= 3600
    for _ in range(5):
        refused = limited.client.get("/", headers=subject)
    assert refused.status_code == 429
    assert refused.headers["x-envoy-ratelimited"] == "true"
    assert refused.headers["ratelimit-remaining"] == "0"


def test_descriptors_change_without_a_restart(limited: LimitedEnvoy) -> None:
    subject = fresh()
    assert limited.statuses(6, subject=subject) == [200] * 5 + [429]
    limited.gateway.edit(lambda settings: _set_subjects_limit(settings, 8))
    assert limited.statuses(9, subject=fresh()) == [200] * 8 + [429]
    limited.gateway.edit(lambda settings: _set_subjects_limit(settings, 5))
    assert limited.statuses(6, subject=fresh()) == [200] * 5 + [429]


def _set_subjects_limit(settings: Config, limit: int) -> None:
    domain = settings["limits"]["domains"][DOMAIN]
    domain["descriptors"][0]["rate_limit"] = {"unit": "hour", "requests_per_unit": limit}


def test_the_failure_mode_of_the_filter_applies_while_the_service_is_unreachable() -> None:
    (unused,) = free_ports(1)
    with running_envoy([f"127.0.0.1:{unused}"]) as (lenient, strict):
        headers = {"x-subject": fresh()}
        assert lenient.get("/", headers=headers).status_code == 200
        assert strict.get("/", headers=headers).status_code == 500
        assert strict.get("/").status_code == 200
