"""A right config round-trips; a wrong one says what, where, and what would be right."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sluice.config import ConfigError, GatewayConfig, PolicyDocument, policy_document
from sluice.config.load import load, loads

MINIMAL = """
models:
  a:
    versions:
      v1: {endpoints: [{address: "127.0.0.1:9001"}]}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "gateway.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_an_empty_file_is_a_gateway_with_defaults() -> None:
    assert loads("") == GatewayConfig()


def test_a_single_version_is_the_stable_one() -> None:
    assert loads(MINIMAL).models["a"].stable_version == "v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "listner: {}",
            "gateway.yaml:1: listner: unknown key; did you mean listener? allowed keys: auth, ",
        ),
        (
            "models:\n  a:\n    versions:\n      v1:\n        endpoint: x\n",
            "gateway.yaml:5: models.a.versions.v1.endpoint: unknown key; did you mean endpoints?",
        ),
        (
            "requests:\n  max_body: 10MB\n",
            "gateway.yaml:2: requests.max_body: write a size as a number and a unit, such as",
        ),
        (
            "callout:\n  message_timeout: soon\n",
            "gateway.yaml:2: callout.message_timeout: write a duration as a number and a unit",
        ),
        (
            'listener:\n  address: "8080"\n',
            "gateway.yaml:2: listener.address: write an address as host:port, such as",
        ),
        ("a: ]", "gateway.yaml:1: the file is not valid YAML: "),
        ("listener: {}\nlistener: {}\n", "gateway.yaml:2: listener: the key occurs twice"),
        ("listener: &a\n  x: *a\n", "gateway.yaml:1: listener.x: an alias refers to itself"),
        (
            "auth:\n  issuers:\n  - {issuer: i, audiences: [a], algorithms: [none], jwks: '{}'}\n",
            "gateway.yaml:3: auth.issuers.0.algorithms.0: input should be 'RS256', ",
        ),
        (
            "auth:\n  issuers:\n  - {issuer: i, audiences: [a], algorithms: [RS256]}\n",
            "gateway.yaml:3: auth.issuers.0: set exactly one of jwks, jwks_file and jwks_uri",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_located_and_explained(text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(text))


def test_every_mistake_is_reported_in_the_order_of_the_file() -> None:
    found = problems("requests: {max_body: -1}\ncallout: {workers: 0}\nx: 1\n")
    assert [problem.split(":")[1] for problem in found] == ["1", "2", "3"]


def test_symmetric_and_asymmetric_algorithms_never_mix() -> None:
    text = "auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256, HS256], jwks: '{}'}]}"
    assert "mixes symmetric" in problems(text)[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stable: v9", "stable names version 'v9', but the versions are v1, v2"),
        ("stable: v1\n    claim_rules: [{value: vip, version: v3}]", "claim_rules.0 names"),
        ("stable: v1\n    canaries: [{version: v1, percent: 1}]", "must have a different version"),
        ("stable: v1\n    canaries: [{version: v2, percent: 101}]", "less than or equal to 100"),
        ("stable: v1\n    canaries: [{version: v2, percent: 0.005}]", "multiple of 0.01"),
        ("type: t", "set stable to the default version"),
        (
            "stable: v1\n    access: {public: true, allow: [{groups: [a]}]}",
            "remove allow, or set public: false",
        ),
        ("stable: v1\n    access: {allow: [{}]}", "needs groups, subjects or claims"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(line: str, expected: str) -> None:
    endpoint = '{endpoints: [{address: "127.0.0.1:1"}]}'
    text = f"models:\n  a:\n    versions: {{v1: {endpoint}, v2: {endpoint}}}\n    {line}\n"
    assert expected in problems(text)[0]


def test_two_models_cannot_share_a_path() -> None:
    text = (
        MINIMAL
        + '  b:\n    paths: [/v2/models/a]\n    versions: {v1: {endpoints: [{address: "h:1"}]}}\n'
    )
    assert "models a and b both have the path /v2/models/a" in problems(text)[0]


REPORTS_OFF = "telemetry: {reports: {enabled: false}}\n"


def test_a_breaker_that_would_hear_nothing_is_refused_with_what_to_set() -> None:
    assert problems(MINIMAL + REPORTS_OFF) == [
        "gateway.yaml:2: telemetry.reports.enabled is false, but breakers need the reports: "
        "set breaker.enabled: false in models a, or enable the reports"
    ]
    version = '{versions: {v1: {endpoints: [{address: "h:1"}]}}}'
    many = MINIMAL + "".join(f"  {name}: {version}\n" for name in "bcdef") + REPORTS_OFF
    assert "in models a, b, c and 3 more, or" in problems(many)[0]


@pytest.mark.parametrize(
    "text", [REPORTS_OFF, MINIMAL + "    breaker: {enabled: false}\n" + REPORTS_OFF, MINIMAL]
)
def test_reports_may_be_off_where_no_breaker_needs_them(text: str) -> None:
    loads(text)


def test_aliases_that_expand_without_bound_are_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more than a million nodes" in problems("\n".join(levels))[0]


def test_an_unreadable_file_is_a_problem_of_that_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the file cannot be read: No such file"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "binary.yaml")


def test_a_policy_carries_the_key_set_instead_of_naming_its_file(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    config = loads(
        "auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwks_file: jwks.json}]}"
    )
    issuer = policy_document(config, tmp_path).auth.issuers[0]
    assert (issuer.jwks, issuer.jwks_file) == ('{"keys": []}', None)


ISSUER = "auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwks_file: keys}]}"


def test_the_version_is_that_of_the_content_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text('{"keys": []}')
    as_json = json.dumps(yaml.safe_load(ISSUER))
    versions = {
        policy_document(loads(text), tmp_path).version
        for text in (ISSUER, f"# a comment\n{ISSUER}\nlimits: {{}}", as_json)
    }
    assert len(versions) == 1
    assert re.fullmatch("[0-9a-f]{16}", versions.pop())


def test_the_version_changes_with_every_key_and_every_key_set(tmp_path: Path) -> None:
    versions = set()
    for keys, more in (("{}", ""), ("{ }", ""), ("{}", "envoy: {concurrency: 3}"), ("{}", MINIMAL)):
        (tmp_path / "keys").write_text(keys)
        versions.add(policy_document(loads(f"{ISSUER}\n{more}"), tmp_path).version)
    assert len(versions) == 4


def test_a_missing_key_set_names_the_key_that_names_it(tmp_path: Path) -> None:
    config = loads(
        "auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwks_file: absent}]}"
    )
    with pytest.raises(ConfigError, match=r"issuers\.0\.jwks_file: cannot be read"):
        policy_document(config, tmp_path)


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
ports = st.integers(1, 65535)
addresses = st.builds("{}:{}".format, st.sampled_from(["127.0.0.1", "[::1]", "model.svc"]), ports)
endpoints = st.builds(
    lambda address, weight: {"address": address, "weight": weight}, addresses, st.integers(1, 128)
)
versions = st.fixed_dictionaries(
    {"endpoints": st.lists(endpoints, min_size=1, max_size=3, unique_by=lambda e: e["address"])},
    optional={"protocol": st.sampled_from(["http", "grpc"]), "health_check": st.just({})},
)


@st.composite
def models(draw: st.DrawFn) -> dict[str, object]:
    served = draw(st.dictionaries(names, versions, min_size=1, max_size=3))
    order = list(served)
    share = st.integers(0, 10_000 // len(order)).map(lambda hundredths: hundredths / 100)
    return {
        "versions": served,
        "stable": order[0],
        "canaries": [{"version": name, "percent": draw(share)} for name in order[1:]],
        "timeout": draw(st.sampled_from(["250ms", "30s", "5m", 0, 1.5])),
    }


configs = st.dictionaries(names, models(), max_size=4).map(
    lambda chosen: GatewayConfig.model_validate({"models": chosen})
)


@given(configs)
def test_config_to_text_and_back_is_the_identity(config: GatewayConfig) -> None:
    assert loads(config.model_dump_json()) == config


@given(configs)
def test_a_policy_survives_the_wire_with_its_version(config: GatewayConfig) -> None:
    policy = policy_document(config, Path())
    received = PolicyDocument.model_validate_json(policy.model_dump_json())
    assert (received, received.version) == (policy, policy.version)
