"""`sluice init`, `sluice docs`, and the files that commands of an installed package write."""

import random
import re
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import jwt
import pytest
import yaml

from sluice.cli import main
from sluice.config.load import load
from sluice.data import data_path
from sluice.demo import PORTS
from sluice.devkeys import AUDIENCE, state_folder
from tests.installed import Installed, install


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def run(
    installed: Installed, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        installed.command(*arguments),
        env={**installed.environment, **environment},
        cwd=installed.work,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_an_installed_package_writes_only_to_the_working_and_the_state_folder(
    installed: Installed,
) -> None:
    before = installed.files()
    assert run(installed, "init").returncode == 0
    token = run(installed, "token", "--sub", "1234")
    assert token.returncode == 0
    assert installed.files() == before
    state = installed.home / ".local/state/sluice"
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {
        "dev-key.pem": 0o600,
        "dev-jwks.json": 0o644,
    }
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    config = load(installed.work / "sluice-demo" / "gateway.yaml")
    (issuer,) = config.auth.issuers
    assert issuer.jwks_file == str(state / "dev-jwks.json")
    (key,) = jwt.PyJWKSet.from_json(Path(str(issuer.jwks_file)).read_text()).keys
    claims = jwt.decode(token.stdout.strip(), key, ["RS256"], audience=AUDIENCE)
    assert claims["sub"] == "1234"


def test_a_state_folder_that_cannot_be_written_is_named_with_the_remedy(
    installed: Installed,
) -> None:
    (installed.home / "file").write_text("")
    ran = run(installed, "token", "--sub", "1", XDG_STATE_HOME=f"{installed.home}/file")
    assert ran.returncode == 1
    assert f"{installed.home}/file/sluice" in ran.stderr
    assert "set XDG_STATE_HOME to a folder that you can write" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_up_without_a_folder_for_temporary_files_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "demo")]) == 0
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert main(["up", "--demo", str(tmp_path / "demo" / "gateway.yaml")]) == 1
    assert "set TMPDIR to a folder that you can write" in capsys.readouterr().err


def test_the_installed_documentation_has_the_files_that_its_pages_name(
    installed: Installed,
) -> None:
    listed = run(installed, "docs").stdout
    assert str(installed.site / "sluice/_data/docs") in listed
    page = run(installed, "docs", "configure").stdout
    assert page == (data_path("docs") / "configure.md").read_text()
    assert (installed.site / "sluice/_data/deploy/prometheus/prometheus.yml").exists()


def test_every_address_of_a_demo_with_a_port_of_its_own_is_in_its_range(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "demo"), "--port", "23000"]) == 0
    config = load(tmp_path / "demo" / "gateway.yaml")
    models = [
        endpoint.address
        for model in config.models.values()
        for version in model.versions.values()
        for endpoint in version.endpoints
    ]
    gateway = [
        config.listener.address, config.control_plane.http, config.control_plane.xds,
        config.envoy.admin, config.telemetry.metrics.address, *config.callout.addresses(),
    ]  # fmt: skip
    assert config.video is not None
    video = [config.video.http, config.video.grpc, config.video.metrics]
    ports = [int(address.removeprefix("127.0.0.1:")) for address in (*gateway, *models, *video)]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(range(23000, 23000 + PORTS))
    assert ports[0] == 23000


def test_up_names_a_socket_whose_folder_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "demo"), "--port", str(free_first_port())]) == 0
    config = tmp_path / "demo" / "gateway.yaml"
    address = f"unix:{tmp_path}/absent/callout"
    config.write_text(re.sub(r"(callout: { address: )[^ ]*", rf'\1"{address}"', config.read_text()))
    assert main(["up", str(config)]) == 1
    error = capsys.readouterr().err
    assert [f"{a} (callout)" in error for a in load(config).callout.addresses()] == [True, True]


def test_up_names_an_envoy_that_cannot_be_executed_before_it_starts_a_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "demo"), "--port", str(free_first_port())]) == 0
    config = tmp_path / "demo" / "gateway.yaml"
    capsys.readouterr()
    assert main(["up", str(config), "--envoy", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"sluice up: no Envoy at {tmp_path}/absent: the file is missing or cannot be executed"
    )


@pytest.mark.parametrize("key", ["http", "xds"])
def test_the_control_plane_names_an_address_in_use(
    key: str, installed: Installed, tmp_path: Path
) -> None:
    assert main(["init", str(tmp_path / "demo"), "--port", str(free_first_port())]) == 0
    config = tmp_path / "demo" / "gateway.yaml"
    address: str = getattr(load(config).control_plane, key)
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        ran = run(installed, "control-plane", str(config))
    assert ran.returncode == 1
    assert address in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_callout_names_an_address_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert main(["callout", "--metrics", address, "--xds", "127.0.0.1:1"]) == 1
    assert f"cannot listen on {address}: Address already in use" in capsys.readouterr().err


def free_first_port() -> int:
    """The first of the ports of a demo, below those that the kernel gives to clients."""
    return random.randrange(20_000, 32_000, PORTS)


def test_an_unknown_page_suggests_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", "configur"]) == 2
    assert "did you mean configure?" in capsys.readouterr().err


def test_init_replaces_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.yaml").write_text("mine")
    assert main(["init", str(tmp_path)]) == 1
    assert f"{tmp_path / 'gateway.yaml'} exists" in capsys.readouterr().err
    assert (tmp_path / "gateway.yaml").read_text() == "mine"
    assert not (tmp_path / "digit-7.png").exists()


def test_two_demos_with_ports_of_their_own_share_no_address(tmp_path: Path) -> None:
    for name, port in (("a", "21000"), ("b", "21040")):
        assert main(["init", str(tmp_path / name), "--port", port]) == 0
    ports = [set(ports_of(tmp_path / name / "gateway.yaml")) for name in ("a", "b")]
    assert len(ports[0]) == len(ports[1]) == 12
    assert ports[0] < set(range(21000, 21040))
    assert ports[1] < set(range(21040, 21080))


def ports_of(file: Path) -> list[int]:
    config = load(file)
    addresses = [
        config.listener.address,
        config.control_plane.http,
        config.control_plane.xds,
        config.envoy.admin,
        config.telemetry.metrics.address,
        *config.callout.addresses(),
    ]
    for model in config.models.values():
        for version in model.versions.values():
            addresses += [endpoint.address for endpoint in version.endpoints]
    return [int(address.rpartition(":")[2]) for address in addresses]


def test_a_copy_differs_from_the_example_only_in_its_key_set(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "demo")]) == 0
    copy = yaml.safe_load((tmp_path / "demo/gateway.yaml").read_text())
    example = yaml.safe_load((data_path("examples") / "gateway.yaml").read_text())
    copy["auth"]["issuers"][0]["jwks_file"] = example["auth"]["issuers"][0]["jwks_file"]
    assert copy == example


@pytest.mark.parametrize("port", ["0", "65530", "x", "-1"])
def test_a_port_without_room_for_all_addresses_is_refused(port: str) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["init", f"--port={port}"])
    assert exit_status.value.code == 2


def test_the_state_folder_ignores_a_relative_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == Path("/home/someone/.local/state/sluice")
