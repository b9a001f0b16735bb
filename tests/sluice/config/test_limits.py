"""Limits and breakers that cannot work or that contradict themselves are refused."""

import pytest

from sluice.config import ConfigError
from sluice.config.load import loads

RULE = "limits: {{rules: [{{name: r, rate: 10, {}}}]}}"
BACKEND = "limits: {{backend: {{{}}}}}"
DOMAIN = "limits: {{domains: {{d: {{descriptors: [{}]}}}}}}"
BREAKER = (
    "models: {{m: {{versions: {{v1: {{endpoints: [{{address: '127.0.0.1:1'}}]}}}}, breaker: {}}}}}"
)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (RULE.format("key: [user]"), "write subject, group"),
        (RULE.format("key: ['header:X-Tenant']"), "header:NAME (in lower case)"),
        (
            RULE.format("algorithm: fixed_window, burst: 5"),
            "rules.0.burst: remove burst: only token_bucket has it",
        ),
        (
            RULE.format("per: day, burst: 1000000"),
            "rules.0.burst: write a number of at most 104249 with per: day",
        ),
        (RULE.format("cost: {constant: 11}"), "rules.0.cost.constant: write at most 10, not 11"),
        (RULE.format("burst: 5, cost: {maximum: 6}"), "it would refuse every such request"),
        (
            RULE.format("cost: {constant: 3, maximum: 2}"),
            "rules.0.cost.maximum: write a number of at least cost.constant",
        ),
        ("limits: {rules: [{name: r, rate: 1}, {name: r, rate: 2}]}", "have the name 'r'"),
        (BACKEND.format("kind: redis"), "backend.urls: set urls to the Redis servers"),
        (BACKEND.format("urls: ['redis://h']"), "remove the URLs, or set kind: redis"),
        (BACKEND.format("kind: redis, urls: ['redis://u:p@h']"), "remove the credentials"),
        (BACKEND.format("kind: redis, urls: ['http://h']"), "write redis://HOST"),
        (
            BACKEND.format("kind: redis, urls: ['redis://a', 'redis://b']"),
            "write one URL with mode: single",
        ),
        (BACKEND.format("kind: redis, urls: ['redis://a'], mode: sentinel"), "sentinel_service"),
        (
            BACKEND.format("kind: redis, urls: ['redis://a/3'], mode: cluster"),
            "only database 0",
        ),
        (
            BACKEND.format("leases: {interval: 1s, lifetime: 500ms}"),
            "leases.interval: write a duration below",
        ),
        (
            DOMAIN.format("{key: a}, {key: a}"),
            "two descriptors have the key and the value ('a', '')",
        ),
        (
            DOMAIN.format("{key: a, rate_limit: {unlimited: true, requests_per_unit: 1}}"),
            "remove requests_per_unit",
        ),
        (DOMAIN.format("{key: a, rate_limit: {name: n, replaces: [n]}}"), "cannot replace itself"),
        (
            BREAKER.format("{reduce_above: 0.5}"),
            "reduce_above: write a number of at most refuse_above",
        ),
        (BREAKER.format("{sample: 10}"), "sample: write a number of at least min_volume"),
    ],
)
def test_a_limit_that_cannot_work_is_refused(text: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loads(text)
    assert remedy in str(refused.value)


def test_the_error_for_a_redis_url_does_not_show_its_password() -> None:
    with pytest.raises(ConfigError) as refused:
        loads(BACKEND.format("kind: redis, urls: ['redis://user:hunter2@host']"))
    assert "hunter2" not in str(refused.value)


def test_the_defaults_match_the_documentation() -> None:
    config = loads(BREAKER.format("{}"))
    breaker = config.models["m"].breaker
    assert (breaker.refuse_above, breaker.reduce_above, breaker.admit) == (0.30, 0.10, 0.5)
    assert (config.limits.backend.kind, config.limits.backend.fail) == ("memory", "open")
