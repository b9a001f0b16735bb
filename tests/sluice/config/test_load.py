"""A valid config round-trips. An error names the file, the line, the key and the remedy."""

from pathlib import Path

import pytest
from hypothesis import given

from sluice.config import ConfigError, GatewayConfig
from sluice.config import load as load_module
from sluice.config.document import Node, parse
from sluice.config.errors import MAX_PROBLEMS, json_pointer, unplaced
from sluice.config.load import MAX_ERRORS, ConfigText, load, loads
from tests.sluice.config.strategies import configs

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


def test_an_empty_map_gives_the_defaults() -> None:
    assert loads("{}") == GatewayConfig()


@pytest.mark.parametrize("text", ["", "\n", "# a comment\n", "---\n", "~"])
def test_an_empty_file_is_refused(text: str) -> None:
    """A program may empty the file before it writes the new content."""
    assert "the file is empty; write {}" in problems(text)[0]


def test_a_single_version_is_the_stable_one() -> None:
    assert loads(MINIMAL).models["a"].stable_version == "v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "listner: {}",
            "gateway.yaml:1: listner: unknown key; did you mean listener? allowed keys: allow_",
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
            "gateway.yaml:2: listener.address: '8080' is no such address: write an IP address and "
            "a port, such as",
        ),
        ("a: ]", "gateway.yaml:1: the file is not valid YAML: "),
        ("listener: {}\nlistener: {}\n", "gateway.yaml:2: listener: the key occurs twice"),
        ("listener: &a\n  x: *a\n", "gateway.yaml:2: listener.x: an alias refers to itself"),
        (
            "auth:\n  issuers:\n  - {issuer: i, audiences: [a], algorithms: [none], jwks: '{}'}\n",
            "gateway.yaml:3: auth.issuers.0.algorithms.0: write RS256, RS384, ",
        ),
        (
            "auth:\n  issuers:\n  - {issuer: i, audiences: [a], algorithms: [RS256]}\n",
            "gateway.yaml:3: auth.issuers.0: set exactly one of jwks, jwks_file and jwks_uri",
        ),
    ],
)  # fmt: skip
def test_an_error_names_the_line_the_key_and_the_remedy(text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(text))


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("listner: {}", "/listner"),
        ("a: ]", ""),
        ("listener: {}\nlistener: {}\n", "/listener"),
        ("callout: {workers: true}", "/callout/workers"),
        ("limits: {model_types: {x: {rate: 1, burst: 0}}}", "/limits/model_types/x/burst"),
        ("models:\n  a: {versions: {v1: {endpoints: [{address: x}]}}}\n",
         "/models/a/versions/v1/endpoints/0/address"),
        ("models: {a/b: {}}", "/models"),
        ("auth: {SECRET: x}", "/auth"),
    ],
)  # fmt: skip
def test_an_error_has_a_json_pointer_without_keys_that_may_be_secrets(
    text: str, pointer: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, "gateway.yaml")
    assert caught.value.problems[0].pointer == pointer


def test_an_error_of_a_valid_config_has_a_json_pointer() -> None:
    text = ConfigText(MINIMAL, "gateway.yaml")
    path = ("models", "a", "versions", "v1", "endpoints", 0)
    for place in (text.problem, unplaced):
        assert place(path, "m").pointer == "/models/a/versions/v1/endpoints/0"


def test_a_json_pointer_escapes_tildes_and_slashes() -> None:
    assert json_pointer(("a/b", "m~n", 0, "")) == "/a~1b/m~0n/0/"


def test_all_errors_are_reported_in_the_order_of_the_file() -> None:
    found = problems("requests: {max_body: -1}\ncallout: {workers: 0}\nx: 1\n")
    assert [problem.split(":")[1] for problem in found] == ["1", "2", "3"]


def test_the_number_of_errors_that_are_shown_is_bounded() -> None:
    found = problems("".join(f"key{number}: 1\n" for number in range(1_000)))
    assert len(found) == MAX_PROBLEMS
    assert [problem.split(":")[1] for problem in found] == [str(n + 1) for n in range(MAX_PROBLEMS)]
    with pytest.raises(ConfigError, match="and 950 more errors"):
        loads("".join(f"key{number}: 1\n" for number in range(1_000)))


def test_very_many_errors_are_counted_only() -> None:
    (found,) = problems("".join(f"key{number}: 1\n" for number in range(MAX_ERRORS + 1)))
    assert "10001 values are not valid" in found


def test_symmetric_and_asymmetric_algorithms_cannot_be_mixed() -> None:
    text = "auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256, HS256], jwks: '{}'}]}"
    assert "algorithms: symmetric (HS*) and asymmetric algorithms are mixed" in problems(text)[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stable: v9", "models.a.stable: the model has no version 'v9'; write v1 or v2"),
        (
            "stable: v1\n    claim_rules: [{value: vip, version: v3}]",
            "claim_rules.0.version: the model",
        ),
        (
            "stable: v1\n    canaries: [{version: v1, percent: 1}]",
            "'v1' is the stable version, which cannot be",
        ),
        (
            "stable: v1\n    canaries: [{version: v2, percent: 101}]",
            "write a number of at most 100, not 101",
        ),
        (
            "stable: v1\n    canaries: [{version: v2, percent: 0.005}]",
            "write a multiple of 0.01, not 0.005",
        ),
        ("type: t", "set stable to the default version, v1 or v2"),
        (
            "stable: v1\n    access: {public: true, allow: [{groups: [a]}]}",
            "models.a.access.allow: a public model admits every caller: remove allow",
        ),
        ("stable: v1\n    access: {allow: [{}]}", "needs groups, subjects or claims"),
    ],
)
def test_contradictory_rules_are_refused(line: str, expected: str) -> None:
    endpoint = '{endpoints: [{address: "127.0.0.1:1"}]}'
    text = f"models:\n  a:\n    versions: {{v1: {endpoint}, v2: {endpoint}}}\n    {line}\n"
    assert expected in problems(text)[0]


VERSIONS = 'versions: {v1: {endpoints: [{address: "h:1"}]}}'
CLASHES = {
    MINIMAL + f"  b:\n    paths: [/x, /v2/models/a]\n    {VERSIONS}\n":
        "7: models.b.paths.1: two models have the path '/v2/models/a'; the other is models.a in "
        "line 3",
    f"models:\n  a:\n    paths:\n    - /x\n    - /x\n    {VERSIONS}\n":
        "5: models.a.paths.1: two models have the path '/x'; the other is models.a.paths.0 in "
        "line 4",
    "models:\n  a: {}\n  b: {}\n  a: {}\n": "4: models.a: the key occurs twice, first in line 2",
    "auth:\n  issuers:\n"
    + "  - {issuer: i, audiences: [a], algorithms: [RS256], jwks_file: f}\n" * 2:
        "4: auth.issuers.1.issuer: two issuers have the same issuer; the other is "
        "auth.issuers.0.issuer in line 3",
    f"auth:\n  api_keys:\n  - {{name: k, sha256: '{'1a' * 32}'}}\n  - {{name: k, sha256: x}}\n"
    .replace("sha256: x", f"sha256: '{'2b' * 32}'"):
        "4: auth.api_keys.1.name: two API keys have the same name; the other is "
        "auth.api_keys.0.name in line 3",
    "auth:\n  api_keys:\n"
    + "".join(f"  - {{name: k{n}, sha256: '{'1a' * 32}'}}\n" for n in range(2)):
        "4: auth.api_keys.1.sha256: two API keys have the same sha256; the other is "
        "auth.api_keys.0.sha256 in line 3",
    "limits:\n  rules:\n  - {name: r, rate: 1}\n  - {name: s, rate: 1}\n  - {name: r, rate: 2}\n":
        "5: limits.rules.2.name: two rules have the name 'r'; the other is limits.rules.0.name in "
        "line 3",
    MINIMAL + "    inputs:\n    - {name: t, datatype: FP32, shape: [1]}\n"
    "    - {name: t, datatype: FP32, shape: [1]}\n":
        "8: models.a.inputs.1.name: two tensors have the name 't'; the other is "
        "models.a.inputs.0.name in line 7",
    "models:\n  a:\n    versions:\n      v1:\n        endpoints:\n        - address: h:1\n"
    "        - address: h:1\n":
        "7: models.a.versions.v1.endpoints.1.address: two endpoints have the address 'h:1'; set "
        "weight instead; the other is models.a.versions.v1.endpoints.0.address in line 6",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CLASHES.items())
def test_a_clash_names_both_lines(text: str, expected: str) -> None:
    assert problems(text) == [f"gateway.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits: {models: {sentimant: {rate: 1, burst: 1}}}", "no model has this name; did you "),
        ("limits: {model_types: {clasify: {rate: 1, burst: 1}}}", "this type; did you mean clas"),
        ("limits: {model_types: {x: {rate: 1, burst: 1}}}", "no model has this type"),
    ],
)
def test_a_limit_of_an_unknown_model_suggests_a_near_name(text: str, expected: str) -> None:
    model = f"models: {{sentiment: {{type: classify, {VERSIONS}}}}}\n"
    (found,) = problems(f"{text}\n{model}")
    assert found.startswith("gateway.yaml:1: limits.model")
    assert expected in found


REPORTS_OFF = "telemetry: {reports: {enabled: false}}\n"


def test_a_breaker_without_reports_is_refused() -> None:
    assert problems(MINIMAL + REPORTS_OFF) == [
        "gateway.yaml:6: telemetry.reports.enabled: breakers need the reports: write true, or set "
        "breaker.enabled: false in models a"
    ]
    version = '{versions: {v1: {endpoints: [{address: "h:1"}]}}}'
    many = MINIMAL + "".join(f"  {name}: {version}\n" for name in "bcdef") + REPORTS_OFF
    assert "in models a, b, c and 3 more" in problems(many)[0]


@pytest.mark.parametrize(
    "text", [REPORTS_OFF, MINIMAL + "    breaker: {enabled: false}\n" + REPORTS_OFF, MINIMAL]
)
def test_reports_can_be_disabled_when_no_breaker_needs_them(text: str) -> None:
    loads(text)


def test_aliases_that_expand_to_too_many_nodes_are_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more than a million nodes" in problems("\n".join(levels))[0]


def test_the_error_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the file cannot be read: No such file"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "binary.yaml")


@given(configs)
def test_a_config_is_unchanged_by_a_round_trip_through_text(config: GatewayConfig) -> None:
    assert loads(config.model_dump_json()) == config


def test_the_line_of_a_key_is_found_with_one_further_parse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parses = []

    def counted(text: str) -> Node | None:
        parses.append(text)
        return parse(text)

    monkeypatch.setattr(load_module, "parse", counted)
    text = ConfigText("listener:\n  address: 127.0.0.1:1\nrequests: {}\n", "gateway.yaml")
    keys = (("listener", "address"), ("requests",), ("auth",))
    places = [text.problem(key, "m") for key in keys]
    assert [place.line for place in places] == [2, 3, 1]
    assert len(parses) == 1
