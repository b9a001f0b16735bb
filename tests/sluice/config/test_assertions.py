"""A config whose assertion is not true is refused, with a request that shows it."""

import json
import random
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.auth import CredentialsError
from extproc.decision import decide
from extproc.policy.compiled import Policy, compile_policy
from sluice.cli import main
from sluice.config import ConfigError, GatewayConfig, policy_document
from sluice.config.assertions import check_assertions, violations
from sluice.config.assertions.work import UndecidableError, Work
from sluice.config.checked import load_checked
from sluice.config.load import loads
from sluice.config.named_files import MAY_RUN_ELSEWHERE
from tests.extproc.auth.tokens import key_set, rsa_jwk
from tests.sluice.config import assertion_cases as cases

EXAMPLES = 400
REQUESTS = 60


@settings(max_examples=EXAMPLES)
@given(st.integers(0, 2**32))
def test_the_check_agrees_with_every_decision(seed: int) -> None:
    """No request breaks an assertion that the check accepts. The request of an error breaks it."""
    source = random.Random(seed)
    config = GatewayConfig.model_validate(
        {**cases.config(source), "assert": [cases.assertion(source)]}
    )
    policy = compile_policy(policy_document(config, Path()))
    try:
        found = next(violations(config, config.assertions[0], Work()), None)
    except UndecidableError:
        return
    if found is None:
        for _ in range(REQUESTS):
            sent = cases.sent(source, config)
            assert not _breaks(config, policy, sent), sent
        return
    sent = cases.shown(found.found.request, found.found.caller)
    assert _breaks(config, policy, sent), (sent, str(found))


def _breaks(config: GatewayConfig, policy: Policy, sent: cases.Sent) -> bool:
    request = sent.request()
    try:
        identity = policy.authenticator.identify(request.headers, request.now)
    except CredentialsError:
        return False
    return cases.breaks(config.assertions[0], config, sent, identity, decide(policy, request))


ENDPOINT = {"endpoints": [{"address": "127.0.0.1:9"}]}
ISSUER = {
    "issuer": "https://login.test", "audiences": ["sluice"], "algorithms": ["RS256"],
    "jwks": key_set(rsa_jwk(kid="one")),
}  # fmt: skip


def config(assertion: dict[str, object], **model: object) -> GatewayConfig:
    """A config with the model m, which has the versions v1 (stable) and v2."""
    versions = {"v1": ENDPOINT, "v2": ENDPOINT}
    return GatewayConfig.model_validate(
        {
            "auth": {"issuers": [ISSUER]},
            "models": {"m": {"versions": versions, "stable": "v1", **model}},
            "assert": [{"name": "it holds", **assertion}],
        }
    )


def error(assertion: dict[str, object], **model: object) -> str:
    with pytest.raises(ConfigError) as caught:
        check_assertions(config(assertion, **model))
    (problem,) = caught.value.problems
    assert problem.pointer == "/assert/0"
    return problem.message


BATCH = {"caller": {"groups": ["batch"]}}
UNNAMED = {"request": {"names_version": False}}


def test_a_caller_that_may_use_a_model_may_name_each_of_its_versions() -> None:
    text = error({**BATCH, "never": ["v2"]})
    assert "'it holds' is not true: a request reaches v2 of m, because x-model-version" in text
    assert "-H 'x-model-version: v2'" in text
    assert '"group": ["batch"]' in text
    check_assertions(config({**BATCH, **UNNAMED, "never": ["v2"]}))
    others = {"allow": [{"groups": ["staff"]}]}
    assert "staff" in error({**BATCH, "never": ["v2"]}, access=others)  # a caller in both groups
    staff_only = {**BATCH, "unless": {"groups": ["staff"]}, "never": ["v2"]}
    check_assertions(config(staff_only, access=others))


def test_a_canary_by_header_and_by_percent_reaches_its_version() -> None:
    canary = {"version": "v2", "headers": [{"name": "x-beta", "value": "1"}]}
    never = {**BATCH, **UNNAMED, "never": ["v2"]}
    assert "x-beta: 1" in error(never, canaries=[canary])
    by_percent = {"version": "v2", "headers": [], "percent": 1}
    assert "the user gets the canary by percent" in error(never, canaries=[by_percent])
    stable = [{"claim": "group", "value": "batch", "version": "v1"}]
    check_assertions(config(never, canaries=[by_percent], claim_rules=stable))


def test_the_first_claim_rule_decides() -> None:
    rules = [
        {"claim": "tier", "value": "gold", "version": "v2"},
        {"claim": "group", "value": "batch", "version": "v1"},
    ]
    text = error({**BATCH, **UNNAMED, "never": ["v2"]}, claim_rules=rules)
    assert "a claim rule selects it" in text
    assert '"tier": ["gold"]' in text
    check_assertions(config({**BATCH, **UNNAMED, "never": ["v2"]}, claim_rules=rules[::-1]))


def test_always_names_every_version_that_requests_may_reach() -> None:
    rules = [{"claim": "group", "value": "vip", "version": "v2"}]
    vip = {"caller": {"groups": ["vip"]}, **UNNAMED}
    check_assertions(config({**vip, "always": ["v2"]}, claim_rules=rules))
    assert "reaches v2 of m" in error({**vip, "always": ["v1"]}, claim_rules=rules)


def test_refused_and_admitted_are_about_the_access_rules() -> None:
    access = {"allow": [{"groups": ["staff"], "claims": {"mfa": "true"}}]}
    assert "is refused, because no rule of access.allow" in error(
        {"caller": {"groups": ["staff"]}, "admitted": True}, access=access
    )
    both = {"groups": ["staff"], "claims": {"mfa": "true"}}
    check_assertions(config({"caller": both, "admitted": True}, access=access))
    no_mfa = {"unless": {"claims": {"mfa": "true"}}, "refused": True}
    check_assertions(config(no_mfa, access=access))
    assert "the request has no credentials" in error({"admitted": True})
    assert "reaches v1 of m" in error(
        {"caller": {"anonymous": True}, "refused": True}, access={"public": True}
    )


def test_the_share_of_users_of_all_canaries_is_bounded() -> None:
    canaries = [{"version": "v2", "percent": 5.5}]
    check_assertions(config({"max_canary_percent": 5.5}, canaries=canaries))
    assert "by percent" in error({"max_canary_percent": 5.49}, canaries=canaries)


def test_the_share_of_users_of_all_canaries_is_bounded_in_each_step() -> None:
    steps = [{"percent": percent, "duration": 60} for percent in (5, 25, 40)]
    canaries = [{"version": "v2", "steps": steps}]
    check_assertions(config({"max_canary_percent": 40}, canaries=canaries))
    text = error({"max_canary_percent": 30}, canaries=canaries)
    assert "in a step of the canaries of m, users beyond 30 % get v2; lower the percentages" in text


def test_a_condition_on_paths_methods_and_headers_limits_the_assertion() -> None:
    paths = {"paths": ["/classify"]}
    never = {"never": ["v2"], "request": {"paths": ["/classify"], "names_version": False}}
    check_assertions(config(never, canaries=[{"version": "v2"}]))
    text = error(never, canaries=[{"version": "v2"}], **paths)
    assert "CONFIG /classify -X POST" in text
    reads = {"methods": ["GET"], "paths": ["/classify"]}
    check_assertions(config({"refused": True, "request": reads}, **paths))
    off = {"headers": [{"name": "x-canary", "value": "false"}], "names_version": False}
    check_assertions(config({"never": ["v2"], "request": off}, canaries=[{"version": "v2"}]))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            {"access": {"allow": [{"claims": {"exp": "1"}}]}},
            "rules that compare the claim exp cannot be checked: compare another claim",
        ),
        (
            {"canaries": [{"version": "v2", "headers": [{"name": "host", "value": "a"}]}]},
            "canaries that read the header host cannot be checked: let them read another header",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(model: dict[str, object], text: str) -> None:
    never = {**UNNAMED, "never": ["v2" if "canaries" in model else "v1"]}
    assert text in error(never, **model)


def test_the_work_of_a_check_is_bounded() -> None:
    rules = [{"claim": f"c{n}", "value": "a", "version": "v1"} for n in range(100)]
    asserted = config(
        {**UNNAMED, "never": ["v1"], "unless": {"anonymous": False}}, claim_rules=rules
    )
    assert list(violations(asserted, asserted.assertions[0], Work(1000))) == []
    groups = [{"groups": [f"g{n}"]} for n in range(100)]
    refused = config(
        {**UNNAMED, "never": ["v1"], "caller": {"claims": {"iss": "other"}}},
        claim_rules=rules, access={"allow": groups},
    )  # fmt: skip
    assert list(violations(refused, refused.assertions[0], Work())) == []
    with pytest.raises(UndecidableError, match="too many combinations of rules and assertions"):
        list(violations(refused, refused.assertions[0], Work(10_000)))


def test_the_request_of_an_error_can_be_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asserted = config({**BATCH, "name": "batch stays out", "never": ["v2"]})
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(json.loads(asserted.model_dump_json(exclude_unset=True))))
    with pytest.raises(ConfigError) as caught:
        load_checked(file, MAY_RUN_ELSEWHERE)
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == (str(file), "assert.0")
    assert problem.line == 1 + file.read_text().split("\n").index("assert:") + 1
    command = problem.message.partition("`sluice explain ")[2].removesuffix("`")
    arguments = shlex.split(command.replace("CONFIG", str(file)))
    assert main(["explain", *arguments]) == 0
    assert capsys.readouterr().out.endswith("-> m/v2 (version_header)\n")


def test_an_api_key_can_be_assumed_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    key = f"auth: {{api_keys: [{{name: nightly, sha256: {'1a' * 32}, groups: [batch]}}]}}\n"
    model = 'models: {m: {versions: {v1: {endpoints: [{address: "127.0.0.1:9"}]}}}}\n'
    file.write_text(f"{key}{model}assert: [{{name: none, refused: true}}]\n")
    with pytest.raises(ConfigError, match="--api-key nightly"):
        load_checked(file, MAY_RUN_ELSEWHERE)
    arguments = ["explain", "--offline", str(file), "/v2/models/m/ready", "--api-key"]
    assert main([*arguments, "nightly"]) == 0
    assert "subject nightly, verified by api_key, groups batch" in capsys.readouterr().out
    assert main([*arguments, "other"]) == 2
    assert "auth.api_keys has no key with this name" in capsys.readouterr().err


def test_models_that_are_alike_are_checked_once() -> None:
    model = {"versions": {"v1": ENDPOINT}, "access": {"allow": [{"groups": ["staff"]}]}}
    many = GatewayConfig.model_validate(
        {
            "auth": {"issuers": [ISSUER]},
            "models": {f"m{n}": model for n in range(1000)},
            "assert": [{"name": "it holds", "unless": {"groups": ["staff"]}, "refused": True}],
        }
    )
    work = Work(20)
    assert list(violations(many, many.assertions[0], work)) == []
    assert work.steps > 0


def test_the_name_of_an_assertion_is_its_place_in_errors() -> None:
    with pytest.raises(ConfigError, match=r"f:1: assert.0: say what must be true: write never"):
        loads("assert: [{name: a}]", "f")


def test_an_assertion_with_an_unknown_version_is_warned_about(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(json.loads(config({"never": ["v9"]}).model_dump_json())))
    warnings = load_checked(file, MAY_RUN_ELSEWHERE).warnings
    assert [each.code for each in warnings if each.key.startswith("assert")] == ["idle_assertion"]
