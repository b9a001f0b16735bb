"""What `sluice export istio` prints."""

import json
from pathlib import Path

import pytest
import yaml

from sluice.cli import main
from sluice.cli.exit_status import ExitStatus
from xds.istio.names import secret_name

CONFIG = """
istio: {hosts: [models.example.com], gateways: [istio-ingress/public]}
models:
  m:
    versions:
      v1: {endpoints: [{address: m.example.com:443}], tls: {ca: ca.pem}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "gateway.yaml"
    written.write_text(CONFIG)
    return written


def test_yaml_and_json_have_the_same_objects(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "istio", str(file)]) == 0
    printed = capsys.readouterr()
    objects = list(yaml.safe_load_all(printed.out))
    assert [each["kind"] for each in objects] == [
        "ServiceEntry", "DestinationRule", "VirtualService",
    ]  # fmt: skip
    assert main(["export", "istio", str(file), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == objects


def test_the_operator_learns_which_secrets_to_create(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "istio", str(file)]) == 0
    assert capsys.readouterr().err == (
        f"models.m.versions.v1.tls: create the Secret {secret_name('m', 'v1')} with ca.crt in the "
        "namespace of the gateway's pods\n"
    )


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        ("filters", ["EnvoyFilter"]),
        ("policies", ["AuthorizationPolicy", "Telemetry", "EnvoyFilter"]),
        ("mesh-config", [None]),
    ],
)
def test_each_part_is_printed(
    file: Path, capsys: pytest.CaptureFixture[str], part: str, kinds: list[str | None]
) -> None:
    assert main(["export", "istio", str(file), "--part", part]) == 0
    printed = capsys.readouterr()
    assert [each.get("kind") for each in yaml.safe_load_all(printed.out)] == kinds
    assert printed.err == ""
    assert main(["export", "istio", str(file), "--part", part, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each.get("kind") for each in found.get("items", [found])] == kinds


def test_endpoints_in_a_file_are_exported(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = "{endpoints_from: {file: endpoints.yaml}}"
    file.write_text(f"{CONFIG.splitlines()[1]}\nmodels: {{m: {{versions: {{v1: {endpoints}}}}}}}\n")
    assert main(["export", "istio", str(file)]) == ExitStatus.USAGE
    assert "models.m.versions.v1.endpoints_from.file: " in capsys.readouterr().err
    (file.parent / "endpoints.yaml").write_text("- {address: 10.0.0.1:8000}\n")
    assert main(["export", "istio", str(file)]) == 0
    entry = next(iter(yaml.safe_load_all(capsys.readouterr().out)))
    assert [each["address"] for each in entry["spec"]["endpoints"]] == ["10.0.0.1"]


def test_a_config_without_a_mesh_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("models: {}\n")
    assert main(["export", "istio", str(file)]) == ExitStatus.USAGE
    assert "the config has no section istio" in capsys.readouterr().err
