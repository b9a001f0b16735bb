"""The real Envoy checks a config before it is pushed."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.config import ConfigError, GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from sluice.config.gateway import Listener
from xds.candidate.strict import StrictCheckError, check_with_envoy
from xds.resources.compiled import compile_config

MODEL = {"versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9"}]}}}


def loaded(config: GatewayConfig) -> LoadedConfig:
    return LoadedConfig(config, policy_document(config, Path()), Path())


def check(config: GatewayConfig, envoy: Path | None = None) -> None:
    checked = loaded(config)
    check_with_envoy(checked, compile_config(checked, config), envoy)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Creates an Envoy that is a shell script."""

    def create(text: str) -> Path:
        file = tmp_path / "envoy"
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o700)
        return file

    return create


def config(**sections: object) -> GatewayConfig:
    return GatewayConfig.model_validate({"models": {"m": MODEL}, **sections})


def test_envoy_accepts_a_valid_config() -> None:
    check(config())


def test_envoy_accepts_a_listener_whose_files_are_on_another_machine() -> None:
    tls = {"certificate": "/absent/a.pem", "private_key": "/absent/b.pem"}
    check(config(listener={"tls": tls}))


def test_envoy_accepts_parts_whose_certificates_are_on_another_machine() -> None:
    pair = {"certificate": "/absent/a.pem", "private_key": "/absent/b.pem"}
    identity = {"ca": "/absent/ca.pem", "control_plane": pair, "callout": pair, "envoy": pair}
    check(config(identity=identity))


def test_the_message_of_envoy_is_the_error() -> None:
    listener = Listener().model_copy(update={"address": "nohost:80"})
    with pytest.raises(ConfigError, match="Envoy rejects this config: malformed IP address: noho"):
        check(config().model_copy(update={"listener": listener}))


def test_an_envoy_without_a_verdict_is_no_verdict(script: Callable[[str], Path]) -> None:
    with pytest.raises(StrictCheckError, match="Envoy ended with status 7 without a verdict"):
        check(config(), script("exit 7"))
    with pytest.raises(StrictCheckError, match="cannot be executed"):
        check(config(), Path("/absent/envoy"))


def test_only_this_user_can_read_the_files_of_a_check_and_they_do_not_stay(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    check(config(), script(f'dirname "$4" > {seen}; stat -c %a "$(dirname "$4")" >> {seen}'))
    folder, mode = seen.read_text().split()
    assert int(mode, 8) == stat.S_IRWXU
    assert not Path(folder).exists()


def test_the_command_asks_envoy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text('models: {m: {versions: {v1: {endpoints: [{address: "127.0.0.1:9"}]}}}}\n')
    assert main(["validate", "--with-envoy", str(file)]) == 0
    assert main(["validate", "--envoy", "/absent/envoy", str(file)]) == 1
    assert "/absent/envoy cannot be executed" in capsys.readouterr().err
