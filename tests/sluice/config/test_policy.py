"""The policy document has the key sets of the config, and the version of its content."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given

from sluice.config import (
    ConfigError,
    GatewayConfig,
    Model,
    PolicyDocument,
    PolicySettings,
    policy_document,
)
from sluice.config import policy as policy_module
from sluice.config.load import ConfigText, loads
from sluice.keys.key_set import MAX_DOCUMENT
from tests.sluice.config.strategies import configs

ISSUER = "auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwks_file: keys}]}"
EMPTY = '{"keys": []}'
MODEL = "models: {a: {versions: {v1: {endpoints: [{address: '127.0.0.1:1'}]}}}}"


def test_a_policy_has_the_key_set_in_place_of_its_file_name(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text('{"keys": []}')
    issuer = policy_document(loads(ISSUER), tmp_path).auth.issuers[0]
    assert (issuer.jwks, issuer.jwks_file) == ('{"keys": []}', None)


def test_the_version_depends_on_the_content_and_not_on_the_formatting(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text('{"keys": []}')
    as_json = json.dumps(yaml.safe_load(ISSUER))
    versions = {
        policy_document(loads(text), tmp_path).version
        for text in (ISSUER, f"# a comment\n{ISSUER}\nlimits: {{}}", as_json)
    }
    assert len(versions) == 1
    assert re.fullmatch("[0-9a-f]{16}", versions.pop())


def test_the_version_changes_with_the_config_and_with_a_key_set(tmp_path: Path) -> None:
    versions = set()
    for keys, more in (
        (EMPTY, ""),
        (f" {EMPTY}", ""),
        (EMPTY, "envoy: {concurrency: 3}"),
        (EMPTY, MODEL),
    ):
        (tmp_path / "keys").write_text(keys)
        versions.add(policy_document(loads(f"{ISSUER}\n{more}"), tmp_path).version)
    assert len(versions) == 4


def test_the_error_for_a_missing_key_set_names_the_config_key(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"jwks_file: the key set of 'i' in .*: the file cannot be read"
    ):
        policy_document(loads(ISSUER), tmp_path)


@given(configs)
def test_a_policy_is_unchanged_by_a_round_trip_through_json(config: GatewayConfig) -> None:
    policy = policy_document(config, Path())
    received = PolicySettings.model_validate_json(policy.serialized_settings())
    models = {n: Model.model_validate_json(m.serialized) for n, m in policy.models.items()}
    assert PolicyDocument(**dict(received), models=models) == policy


def test_a_changed_copy_of_a_model_is_not_serialized_as_the_original() -> None:
    original = loads(MODEL).models["a"]
    assert b'"timeout":30.0' in original.serialized
    changed = original.model_copy(update={"timeout": 1.0})
    assert b'"timeout":1.0' in changed.serialized
    assert changed.digest != original.digest


def test_a_key_set_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    # Each character has two bytes in UTF-8.
    (tmp_path / "keys").write_text("\u00e9" * (MAX_DOCUMENT // 2 + 1))
    with pytest.raises(
        ConfigError, match=r"jwks_file: the key set of 'i' in .*/keys: the file is larger"
    ):
        policy_document(loads(ISSUER), tmp_path)


def test_a_policy_that_no_worker_would_receive_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").write_text('{"keys": []}')
    size = policy_document(loads(ISSUER), tmp_path).size
    monkeypatch.setattr(policy_module, "MAX_POLICY", size)
    policy_document(loads(ISSUER), tmp_path)
    (tmp_path / "keys").write_text('{"keys":  []}')
    with pytest.raises(ConfigError, match=r"^the policy for the workers is larger than"):
        policy_document(loads(ISSUER), tmp_path)


@pytest.mark.parametrize(
    "keys", ["", "{}", "[]", '{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}', "[" * 100_000]
)
def test_an_invalid_key_set_is_an_error_that_names_file_and_issuer(
    keys: str, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(keys)
    with pytest.raises(
        ConfigError, match=r"^auth\.issuers\.0\.jwks_file: .*'i' in .*/keys: "
    ) as caught:
        policy_document(loads(ISSUER), tmp_path)
    assert "c2hvcnQ" not in str(caught.value)
    config = loads(ISSUER.replace("jwks_file: keys", f"jwks: {json.dumps(keys)}"))
    with pytest.raises(ConfigError, match=r"^auth\.issuers\.0\.jwks: the key set of 'i': "):
        policy_document(config, tmp_path)


def test_an_error_of_a_key_set_names_the_line_of_the_config(tmp_path: Path) -> None:
    text = ConfigText(f"requests: {{}}\n{ISSUER}", "gateway.yaml")
    (tmp_path / "keys").write_text("no JSON")
    with pytest.raises(ConfigError, match=r"^gateway.yaml:2: auth\.issuers\.0\.jwks_file: "):
        policy_document(loads(text.text), tmp_path, text.problem)


def test_a_key_set_without_a_key_for_the_algorithms_of_the_issuer_is_an_error(
    tmp_path: Path,
) -> None:
    secret = "c2VjcmV0" * 8
    keys = json.dumps({"keys": [{"kty": "oct", "k": secret}]})
    (tmp_path / "keys").write_text(keys)
    with pytest.raises(ConfigError, match=r"'i' in .*: no key is for .* issuer \(RS256\)$"):
        policy_document(loads(ISSUER), tmp_path)
    policy_document(loads(ISSUER.replace("RS256", "HS256")), tmp_path)
