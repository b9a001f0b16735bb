"""Secrets for model servers are read once and checked, and no error shows a value."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import check_files
from sluice.config.errors import unplaced
from sluice.config.load import loads
from sluice.config.named_files import (
    MAY_RUN_ELSEWHERE,
    RUNS_HERE,
    RUNS_ON_THIS_MACHINE,
    Strictness,
    watched_files,
)
from sluice.config.secrets import VersionSecrets, read_secrets, system_roots_file
from tests.authority import Authority

NOW = datetime.now(UTC)
SECRET = "Zq7hunter2Zq7"


def config(*addresses: str, **version: Any) -> GatewayConfig:
    endpoints = [{"address": address} for address in addresses or ("models.test:443",)]
    versions = {"v1": {"endpoints": endpoints, **version}}
    return GatewayConfig.model_validate({"models": {"m": {"versions": versions}}})


def read(
    config: GatewayConfig, directory: Path, **environment: str
) -> tuple[VersionSecrets, list[str]]:
    secrets, findings = read_secrets(config, directory, environment, NOW)
    return secrets.versions["m", "v1"], [f"{f.path[4:]}: {f.message}" for f in findings]


def test_a_header_has_the_prefix_and_the_line_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    named = {"Authorization": {"file": "token", "prefix": "Bearer "}, "x-key": {"env": "KEY"}}
    secrets, findings = read(config(headers_from_secret=named), tmp_path, KEY=SECRET)
    expected = {"authorization": f"Bearer {SECRET}".encode(), "x-key": SECRET.encode()}
    assert (secrets.headers, findings) == (expected, [])
    assert SECRET not in repr(secrets)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff", b"x" * 8193])
def test_a_header_that_no_server_would_read_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    secrets, (finding,) = read(config(headers_from_secret={"a": {"file": "token"}}), tmp_path)
    assert secrets.headers == {}
    assert "one line of 1 to 8192 bytes of printable ASCII" in finding


@pytest.mark.parametrize(
    ("strictness", "refused"),
    [(RUNS_HERE, True), (MAY_RUN_ELSEWHERE, True), (RUNS_ON_THIS_MACHINE, False)],
)
def test_the_control_plane_refuses_a_variable_that_is_not_set(
    strictness: Strictness, refused: bool, tmp_path: Path
) -> None:
    named = config(headers_from_secret={"a": {"env": "SLUICE_NO_SUCH_VARIABLE"}})
    if refused:
        with pytest.raises(ConfigError, match="the variable is not set in this process"):
            check_files(named, tmp_path, strictness, unplaced)
    else:
        warnings = check_files(named, tmp_path, strictness, unplaced).warnings
        assert "no_secret_variable" in {warning.code for warning in warnings}


def test_a_missing_file_is_refused_also_by_a_control_plane(tmp_path: Path) -> None:
    named = config(headers_from_secret={"a": {"file": "none"}}, tls={"ca": "none.pem"})
    with pytest.raises(ConfigError) as raised:
        check_files(named, tmp_path, MAY_RUN_ELSEWHERE, unplaced)
    assert [problem.key for problem in raised.value.problems] == [
        "models.m.versions.v1.headers_from_secret.a.file",
        "models.m.versions.v1.tls.ca",
    ]


def test_the_files_of_tls_are_checked_and_followed(tmp_path: Path) -> None:
    authority = Authority("one")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    authority.issue("gateway.test").write(tmp_path, "client")
    authority.issue("other.test").write(tmp_path, "other")
    files = {"ca": "ca.pem", "certificate": "client.pem", "private_key": "client.key"}
    secrets, findings = read(config(tls=files), tmp_path)
    assert findings == []
    assert secrets.private_key == (tmp_path / "client.key").read_bytes()
    assert secrets.private_key.decode() not in repr(secrets)
    _, (finding,) = read(config(tls={**files, "private_key": "other.key"}), tmp_path)
    assert "does not belong to the first certificate" in finding
    assert watched_files(config(tls=files), tmp_path) == [tmp_path / f for f in files.values()]


def test_the_cas_of_the_system_are_used_unless_a_version_names_others(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(Authority("public").certificate)
    environment = {"SSL_CERT_FILE": str(roots)}
    assert system_roots_file(environment) == roots
    secrets, findings = read_secrets(config(tls={}), tmp_path, environment, NOW)
    assert (secrets.system_roots, findings) == (roots.read_bytes(), [])
    roots.unlink()
    _, (finding,) = read_secrets(config(tls={}), tmp_path, environment, NOW)
    assert "the CA certificates of this system: the file cannot be read" in finding.message
    any_server = read_secrets(config(tls={"allow_any_server": True}), tmp_path, environment, NOW)
    assert (any_server[0].system_roots, any_server[1]) == (None, [])


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ({"tls": {"certificate": "c"}}, "set both certificate and private_key, or neither"),
        ({"tls": {"ca": "c", "allow_any_server": True}}, "remove ca, which is not used"),
        ({"headers_from_secret": {"a": {}}}, "set exactly one of file and env"),
        ({"headers_from_secret": {"a": {"env": "A", "file": "f"}}}, "set exactly one of file"),
        ({"headers_from_secret": {"Host": {"env": "A"}}}, "the gateway sets this header itself"),
        ({"headers_from_secret": {"x-sluice-a": {"env": "A"}}}, "the gateway sets this header"),
        ({"headers_from_secret": {"A": {"env": "A"}, "a": {"env": "A"}}}, "write each header once"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(version: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError) as raised:
        config(**version)
    assert error in str(raised.value)


def test_endpoints_with_several_hosts_need_the_name_of_their_certificates() -> None:
    several = ("a.test:1", "b.test:1")
    with pytest.raises(ValidationError, match="write the name in their certificates"):
        config(*several, tls={})
    named = config(*several, tls={"server_name": "Models.test"})
    assert named.models["m"].versions["v1"].server_name == "models.test"
    assert config("A.test:1", "a.test:2", tls={}).models["m"].versions["v1"].server_name == "a.test"


@pytest.mark.parametrize("key", ["headers_from_secret", "tls"])
def test_secrets_are_not_sent_to_other_machines(key: str) -> None:
    value = {
        "headers_from_secret": {"a": {"file": "token"}},
        "tls": {"certificate": "c.pem", "private_key": "k.pem"},
    }[key]
    models = config(**{key: value}).model_dump(mode="json", exclude_defaults=True)
    insecure = {"xds": "0.0.0.0:18000", "allow_insecure": True}
    reachable = {**models, "control_plane": insecure}
    with pytest.raises(ConfigError, match=r"to all who can reach 0\.0\.0\.0:18000"):
        loads(json.dumps(reachable))
