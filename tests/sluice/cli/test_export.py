"""What `sluice export` prints is accepted by the programs that read it, and has no secrets."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.cli import main
from sluice.envoy_binary import find_envoy
from tests.certificates import certificate, private_key
from tests.integration.equality.every_rule import every_rule
from tests.integration.equality.policies import API_KEY_HASH

REFERENCES = {
    "ads", "ads_config", "dynamic_resources", "eds_cluster_config", "rds", "config_discovery",
}  # fmt: skip
"""Keys of a config that needs a control plane."""


SECRET = "hunter2-secret-of-the-upstream"


@pytest.fixture(scope="module")
def every_rule_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config with all kinds of routes, TLS, limits and a host name."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "cert.pem").write_bytes(certificate())
    (folder / "key.pem").write_bytes(private_key())
    config = dict(every_rule(9001).config)
    config["listener"] = {"tls": {"certificate": "cert.pem", "private_key": "key.pem"}}
    by_name = {"v1": {"endpoints": [{"address": "models.example.com:9001"}]}}
    config["models"]["named"] = {"versions": by_name}
    (folder / "header").write_text(SECRET)
    config["models"]["tls"] = {
        "versions": {
            "v1": {
                "endpoints": [{"address": "models.example.com:443"}],
                "tls": {"ca": "cert.pem", "certificate": "cert.pem", "private_key": "key.pem"},
                "headers_from_secret": {"x-upstream-key": {"file": "header"}},
            },
            "v2": {"endpoints": [{"address": "10.0.0.9:443"}], "tls": {"server_name": "a.test"}},
        },
        "stable": "v1",
    }
    config["envoy"] = {"runtime": {"health_check.min_interval": 70}}
    config["limits"] = {"models": {"m": {"rate": 10, "burst": 20}}}
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.parametrize(
    ("output", "option"), [("yaml", None), ("json", None), ("yaml", "--with-secrets")]
)
def test_envoy_accepts_the_static_config(
    output: str,
    option: str | None,
    every_rule_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [] if option is None else [option]
    assert main(["export", "envoy", str(every_rule_file), "--output", output, *options]) == 0
    text = capsys.readouterr().out
    assert API_KEY_HASH not in text
    secrets = (SECRET.encode(), private_key())
    for secret in secrets:
        assert (base64.b64encode(secret).decode() in text) == (option is not None)
    assert "PRIVATE KEY" not in text
    assert SECRET not in text
    assert envoy_accepts(text, every_rule_file.parent / f"static.{output}")


def test_the_static_config_has_everything_that_the_control_plane_would_push(
    every_rule_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "envoy", str(every_rule_file), "-o", "json", "--node-id", "edge"]) == 0
    static = json.loads(capsys.readouterr().out)
    assert static["node"]["id"] == "edge"
    assert not keys(static) & REFERENCES
    clusters = {each["name"]: each for each in static["static_resources"]["clusters"]}
    assert "xds_cluster" not in clusters
    assert "xds_cluster" not in json.dumps(static)
    layer = next(each for each in static["layered_runtime"]["layers"] if "static_layer" in each)
    assert layer["static_layer"] == {"health_check.min_interval": 70}
    (locality,) = clusters["m/v1"]["load_assignment"]["endpoints"]
    assert len(locality["lb_endpoints"]) == 1
    assert clusters["named/v1"]["cluster_type"]["name"] == "envoy.clusters.dns"
    (listener,) = static["static_resources"]["listeners"]
    text = json.dumps(listener)
    assert '"m/native"' in text
    assert '"https://two.test"' in text


def test_the_static_config_has_the_certificates_of_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["certs"]) == 0
    parts = {
        part.replace("-", "_"): {
            "certificate": f"certs/{part}.crt", "private_key": f"certs/{part}.key",
        }
        for part in ("control-plane", "callout", "envoy")
    }  # fmt: skip
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({"identity": {"ca": "certs/ca.crt", **parts}}))
    capsys.readouterr()
    assert main(["export", "envoy", str(file)]) == 0
    text = capsys.readouterr().out
    assert f"filename: {tmp_path}/certs/envoy.key" in text
    assert envoy_accepts(text, tmp_path / "static.yaml")


def envoy_accepts(text: str, static: Path) -> bool:
    """Whether Envoy accepts a static config. Its file is in the folder of the config."""
    static.write_text(text)
    ran = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", static, "--disable-hot-restart"],
        cwd=static.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return True


def keys(value: object) -> set[str]:
    """All keys of the objects in a JSON value."""
    if isinstance(value, dict):
        return {*value, *(name for each in value.values() for name in keys(each))}
    if isinstance(value, list):
        return {name for each in value for name in keys(each)}
    return set()


@pytest.fixture
def limits_file(tmp_path: Path) -> Path:
    descriptors: list[dict[str, Any]] = [
        {
            "key": "subject",
            "rate_limit": {"unit": "minute", "requests_per_unit": 0},
            "descriptors": [
                {
                    "key": "model",
                    "value": "heavy",
                    "shadow_mode": True,
                    "rate_limit": {"requests_per_unit": 5, "name": "h", "replaces": ["all"]},
                }
            ],
        },
        {"key": "subject", "value": "batch", "rate_limit": {"unlimited": True}},
    ]
    file = tmp_path / "gateway.yaml"
    domains = {"mesh": {"descriptors": descriptors}, "../a/b": {"descriptors": descriptors[1:]}}
    file.write_text(yaml.safe_dump({"limits": {"domains": domains}}))
    return file


def test_the_config_of_the_rate_limit_service_has_its_format(
    limits_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "ratelimit", str(limits_file)]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    other, mesh = sorted(documents, key=lambda each: str(each["domain"]))
    assert mesh == {
        "domain": "mesh",
        "descriptors": [
            {
                "key": "subject",
                "rate_limit": {"unit": "minute", "requests_per_unit": 0},
                "descriptors": [
                    {
                        "key": "model",
                        "value": "heavy",
                        "shadow_mode": True,
                        "rate_limit": {
                            "unit": "second",
                            "requests_per_unit": 5,
                            "name": "h",
                            "replaces": [{"name": "all"}],
                        },
                    }
                ],
            },
            {"key": "subject", "value": "batch", "rate_limit": {"unlimited": True}},
        ],
    }
    assert other["domain"] == "../a/b"


def test_each_domain_gets_a_file_in_the_folder(limits_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "ratelimit"
    assert main(["export", "ratelimit", str(limits_file), "--directory", str(folder)]) == 0
    assert sorted(each.name for each in folder.iterdir()) == ["..%2Fa%2Fb.yaml", "mesh.yaml"]
    assert yaml.safe_load((folder / "mesh.yaml").read_text())["domain"] == "mesh"


def test_a_config_without_domains_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("{}")
    assert main(["export", "ratelimit", str(file)]) == 2
    assert "the config has no limits.domains\nhint: " in capsys.readouterr().err


@pytest.fixture
def models_file(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    versions = {"v1": {"endpoints": [{"address": "10.0.0.1:80"}]}}
    file.write_text(yaml.safe_dump({"models": {"m": {"versions": versions}}}))
    return file


def test_the_objects_of_gateway_api_are_documents_of_yaml(
    models_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--gateway", "public", "--gateway-namespace", "edge", "--namespace", "ml"]
    assert main(["export", "gateway-api", str(models_file), *arguments]) == 0
    printed = capsys.readouterr()
    objects = list(yaml.safe_load_all(printed.out))
    (route,) = (each for each in objects if each["metadata"]["name"] == "sluice.m")
    assert route["metadata"]["namespace"] == "ml"
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "edge"}]
    assert "EnvoyProxy" in printed.err

    assert main(["export", "gateway-api", str(models_file), *arguments, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == objects


def test_a_config_that_gateway_api_cannot_express_names_the_key(
    models_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"v1": {"endpoints_from": {"file": "endpoints.yaml"}}}
    models_file.write_text(yaml.safe_dump({"models": {"m": {"versions": versions}}}))
    assert main(["export", "gateway-api", str(models_file)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "models.m.versions.v1.endpoints_from.file" in printed.err
    assert "gateway.yaml:6" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--conversion"],
        ["--callout", "callout"],
        ["--callout", "callout:0"],
        ["--gateway", "Public"],
    ],
)
def test_arguments_that_gateway_api_cannot_use_are_refused(
    models_file: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["export", "gateway-api", str(models_file), *arguments])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert arguments[0] in capsys.readouterr().err
