"""A caller of the API cannot make the gateway read or write other files of the machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.xds.admin.plane import Plane, config_file, plane
from xds.candidate.start import StartOptions
from xds.sources.store.sqlite import SqliteStore

TEXT = """\
models:
  digits:
    stable: v1
    access: {public: true}
    versions:
      v1:
        endpoints: [{address: "127.0.0.1:9001"}]
        headers_from_secret:
          x-token: {file: FILE}
          x-key: {env: KNOWN_VARIABLE}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine: the folder of the gateway, and a secret of somebody else."""
    home = tmp_path_factory.mktemp("home")
    gateway = home / "gateway"
    for folder in (gateway / ".aws", gateway / "secrets"):
        folder.mkdir(parents=True)
    for file in (
        home / "other.token", home / "in-force.token", gateway / "secrets" / "new.token",
        gateway / ".aws" / "credentials",
    ):  # fmt: skip
        file.write_text("secret-of-somebody")
    (gateway / "link").symlink_to(home / "other.token")
    return home


@pytest.fixture(scope="module")
def api(home: Path) -> Iterator[Plane]:
    os.environ["KNOWN_VARIABLE"] = os.environ["SLUICE_SECRET_NEW"] = "value"
    os.environ["OTHER_VARIABLE"] = "value-of-somebody"
    text = TEXT.replace("FILE", str(home / "in-force.token"))
    file = config_file(home / "gateway", text)
    with plane(StartOptions(file, "memory"), SqliteStore()) as running:
        yield running


def version(**secret: str) -> dict[str, Any]:
    added = {
        "endpoints": [{"address": "127.0.0.1:9002"}],
        "headers_from_secret": {"x-new": secret},
    }
    return {"versions": {"v2": added}}


def refusal(api: Plane, change: object, path: str = "/v1/models/digits") -> list[str]:
    """The pointers of the errors of a change that is refused."""
    result = api.patch(path, change)
    document = result.json()
    assert (result.status_code, document.get("reason")) == (422, "invalid_config"), document
    assert "somebody" not in result.text
    assert all("by API" in each["detail"] for each in document["errors"]), document
    return [each["pointer"] for each in document["errors"]]


@pytest.mark.parametrize(
    "name",
    [
        "HOME/other.token", "../other.token", "link", "secrets/../../other.token", "HOME/absent",
        ".aws/credentials", "/proc/self/environ",
    ],
)  # fmt: skip
def test_a_header_cannot_send_a_file_of_the_machine(api: Plane, home: Path, name: str) -> None:
    named = version(file=name.replace("HOME", str(home)))
    at = "/models/digits/versions/v2/headers_from_secret/x-new/file"
    assert refusal(api, named) == [at]


def test_a_header_cannot_send_a_variable_of_the_control_plane(api: Plane) -> None:
    at = "/models/digits/versions/v2/headers_from_secret/x-new/env"
    assert refusal(api, version(env="OTHER_VARIABLE")) == [at]


@pytest.mark.parametrize("secret", [{"file": "secrets/new.token"}, {"env": "SLUICE_SECRET_NEW"}])
def test_files_of_the_gateway_and_its_variables_can_be_named(
    api: Plane, secret: dict[str, str]
) -> None:
    result = api.patch("/v1/models/digits?dry_run=true", version(**secret))
    assert result.status_code == 200, result.text


def test_what_is_in_force_may_stay_and_be_named_for_the_same_purpose(
    api: Plane, home: Path
) -> None:
    in_force = str(home / "in-force.token")
    for change in ({"timeout": "7s"}, version(file=in_force), version(env="KNOWN_VARIABLE")):
        result = api.patch("/v1/models/digits?dry_run=true", change)
        assert result.status_code == 200, result.text
    shown = api.get("/v1/config?defaults=false").json()
    assert api.send("PUT", "/v1/config?dry_run=true", shown).status_code == 200
    trusted = {"listener": {"tls": {"certificate": in_force, "private_key": in_force}}}
    found = refusal(api, trusted, "/v1/config")
    assert found == ["/listener/tls/certificate", "/listener/tls/private_key"]


@pytest.mark.parametrize(
    "change",
    [
        {"telemetry": {"access_log": {"output": "/root/.ssh/authorized_keys"}}},
        {"limits": {"backend": {"kind": "redis", "urls": ["redis://127.0.0.1:1"],
                                "password_env": "OTHER_VARIABLE"}}},
        {"control_plane": {"access": {"tokens": [{"name": "eve", "role": "operator",
                                                  "secret_file": "/etc/hostname"}]}}},
    ],
)  # fmt: skip
def test_other_sections_cannot_either(api: Plane, change: dict[str, Any]) -> None:
    assert len(refusal(api, change, "/v1/config")) == 1


@pytest.mark.parametrize(
    "endpoints",
    [
        {"endpoints": [{"address": "169.254.169.254:80"}]},
        {"endpoints": [{"address": "[::ffff:169.254.169.254]:80"}]},
        {"endpoints": [{"address": "[fe80::1%eth0]:80"}]},
        {"endpoints": [{"address": "100.100.100.200:80"}]},
        {"endpoints": [{"address": "Metadata.google.internal.:80"}]},
        {"endpoints_from": {"dns": {"name": "metadata.google.internal", "port": 80}}},
    ],
)
def test_a_model_cannot_give_the_credentials_of_the_machine_to_clients(
    api: Plane, endpoints: dict[str, Any]
) -> None:
    assert len(refusal(api, {"versions": {"v2": endpoints}})) == 1


def test_a_reader_learns_nothing_about_files(api: Plane, home: Path) -> None:
    """Checks are for readers too: the refusal is the same, whether the file exists or not."""
    answers = set()
    for name in ("other.token", "absent"):
        text = TEXT.replace("FILE", str(home / name))
        for operation in ("validate", "diff"):
            result = api.send("POST", f"/v1/config/{operation}", text, "yaml")
            answers.add((result.status_code, result.text))
    assert len(answers) == 1


def test_a_rollback_may_name_what_an_earlier_revision_has(api: Plane, home: Path) -> None:
    other = {"versions": {"v1": {"headers_from_secret": None}}}
    assert api.patch("/v1/models/digits", other).status_code == 200
    assert refusal(api, version(file=str(home / "in-force.token")))
    assert api.send("POST", "/v1/rollback", {"revision": 1}).status_code == 200


def test_without_a_chosen_folder_only_what_is_in_force_can_be_named() -> None:
    assert StartOptions(None, "sqlite:history.db").folder is None
    assert StartOptions(None, "sqlite:history.db", directory=Path("a")).folder == Path("a")
    assert StartOptions(Path("a/b.yaml"), "memory").folder == Path("a")
