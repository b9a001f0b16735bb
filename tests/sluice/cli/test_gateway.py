"""Every command finds its gateway in the same way, and says which one it looked for."""

import argparse
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import control_plane
from sluice.config import GatewayConfig
from sluice.config.access import Access
from sluice.runner import plan

MODELS = "models:\n  a: {versions: {v1: {endpoints: [{address: '127.0.0.1:9001'}]}}}\n"


def write(file: Path, port: int, more: str = "") -> Path:
    """A config whose control plane and metrics have ports on which nothing listens."""
    file.write_text(
        f"{MODELS}control_plane:\n  http: 127.0.0.1:{port}\n"
        f"telemetry:\n  metrics: {{address: '127.0.0.1:{port}'}}\n"
        f"  profile: {{secret_file: {file.parent}/secret}}\n{more}"
    )
    (file.parent / "secret").write_text("s" * 20)
    return file


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "gateway.yaml", 2)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write(tmp_path / "other.yaml", 3)


@pytest.fixture(autouse=True)
def _no_config_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def error_of(
    capsys: pytest.CaptureFixture[str], *arguments: object, status: int | None = None
) -> str:
    """The error of a command that finds no gateway, or with another status."""
    asks_callout = arguments[0] in ("profile", "callout")
    expected = ExitStatus.FAILED if asks_callout else ExitStatus.NO_CONTROL_PLANE
    assert main([*map(str, arguments)]) == (expected if status is None else status)
    return capsys.readouterr().err


def test_the_error_names_the_address_and_the_line_of_the_config(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error_of(capsys, "status", config).startswith(
        "sluice status: no answer from the control plane at http://127.0.0.1:2 "
        f"(control_plane.http in {config} line 4): Connection refused; is it running?"
    )
    assert error_of(capsys, "profile", config).startswith(
        "sluice profile: no answer from the callout at http://127.0.0.1:2 "
        f"(telemetry.metrics.address in {config} line 6): "
    )


@pytest.mark.parametrize("command", ["status", "profile"])
def test_the_config_comes_from_the_environment_if_no_argument_names_it(
    command: str,
    config: Path,
    other: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLUICE_CONFIG", str(other))
    error = error_of(capsys, command)
    assert "http://127.0.0.1:3" in error
    assert f"{other} line " in error
    assert "from SLUICE_CONFIG" in error
    assert "http://127.0.0.1:2" in error_of(capsys, command, config)


@pytest.mark.parametrize(
    ("command", "option"), [("status", "--control-plane"), ("profile", "--callout")]
)
def test_an_option_comes_before_the_config(
    command: str, option: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, command, config, option, "http://127.0.0.1:4")
    assert f"at http://127.0.0.1:4 ({option}): " in error


def test_a_config_without_the_address_means_the_default_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sluice.cli.gateway.ControlPlane", _Unused)
    file = tmp_path / "gateway.yaml"
    file.write_text(MODELS)
    error = error_of(capsys, "status", file)
    assert f"(the default, because control_plane.http is not in {file}): " in error
    assert "(the default address; give a CONFIG or set SLUICE_CONFIG" in error_of(capsys, "status")


def test_a_config_with_an_error_elsewhere_still_names_the_gateway(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status explains the error, so the command must reach the gateway."""
    write(config, 2, "modles: {}\n")
    assert f"control_plane.http in {config} line 4" in error_of(capsys, "status", config)


@pytest.mark.parametrize("section", ["control_plane: {http: nowhere}", "control_plane: ["])
def test_a_config_whose_address_cannot_be_read_is_an_error(
    section: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(section)
    assert main(["status", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"{file}:")


@pytest.mark.parametrize(("host", "is_sent"), [("127.0.0.1", True), ("10.0.0.1", False)])
def test_a_command_on_the_machine_of_a_gateway_reads_with_the_token_of_a_reader(
    host: str, *, is_sent: bool, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    tokens = "[{name: o, role: operator, secret_file: o}, {name: r, role: reader, secret_file: r}]"
    file.write_text(
        f"control_plane: {{http: '{host}:1', allow_insecure: true, access: {{tokens: {tokens}}}}}"
    )
    for name in ("o", "r"):
        (tmp_path / name).write_text("a-token-0123456789")
    options = argparse.Namespace(config=file, control_plane=None, context=None, token_file=None)
    found = control_plane(options).credentials.token_file
    assert found == (tmp_path / "r" if is_sent else None)


def test_a_wildcard_address_is_reached_by_loopback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("control_plane: {http: '0.0.0.0:2'}")
    assert "http://127.0.0.1:2 " in error_of(capsys, "status", file)
    file.write_text("control_plane: {http: '[::]:2'}")
    assert "http://[::1]:2 " in error_of(capsys, "status", file)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:nonsense")
    for command in ("status", "profile"):
        assert "Connection refused" in error_of(capsys, command, config)


@pytest.mark.parametrize("url", ["127.0.0.1:8081", "ftp://a", "http://"])
def test_an_option_must_be_a_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["status", "--control-plane", url])
    assert end.value.code == 2
    assert "write a URL such as http://127.0.0.1:8081" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "bootstrap", "control-plane", "up", "profile"])
def test_commands_that_need_a_config_take_it_from_the_environment(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([command]) == 2
    assert "SLUICE_CONFIG" in capsys.readouterr().err
    monkeypatch.setenv("SLUICE_CONFIG", str(tmp_path / "absent.yaml"))
    assert main([command]) in (1, 2)
    assert f"{tmp_path}/absent.yaml: the file cannot be read" in capsys.readouterr().err


class _Unused:
    """Stands for the default addresses, at which a gateway may run on this machine."""

    http = "127.0.0.1:1"
    access = Access()

    @staticmethod
    def model_validate(_: object) -> "_Unused":
        return _Unused()


def test_the_callout_takes_its_settings_from_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file.write_text(f"telemetry: {{metrics: {{address: '127.0.0.1:{port}'}}}}\nmodles: {{}}")
        assert f"127.0.0.1:{port}" in error_of(capsys, "callout", file)
        monkeypatch.setenv("SLUICE_CONFIG", str(file))
        assert f"127.0.0.1:{port}" in error_of(capsys, "callout")
    assert main(["callout", "--metrics", "nowhere"]) == 2
    assert "--metrics nowhere: " in capsys.readouterr().err


def test_the_processes_of_up_do_not_read_the_config_of_the_environment(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_CONFIG", str(config))
    for spec in (
        plan.callout(GatewayConfig(), config.parent, None, config.parent),
        plan.control_plane(GatewayConfig(), config),
    ):
        assert spec.environment is not None
        assert "SLUICE_CONFIG" not in spec.environment


class _Refusing(BaseHTTPRequestHandler):
    """Answers every request with an error."""

    def do_GET(self) -> None:
        self.send_error(401, "Unauthorized", "this server needs a password")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in the base)
        """Log nothing."""


@pytest.fixture
def refusing() -> Iterator[int]:
    """The port of a server that is no gateway, or asks for a password."""
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("command", ["status", "profile", "explain"])
def test_a_server_that_answers_with_an_error_has_answered(
    command: str, refusing: int, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = ["/v2/models/a"] if command == "explain" else []
    status = ExitStatus.FAILED if command == "profile" else ExitStatus.NOT_ALLOWED
    error = error_of(capsys, command, write(config, refusing), *request, status=status)
    server = "the callout" if command == "profile" else "the control plane"
    assert error.startswith(f"sluice {command}: {server} at http://127.0.0.1:{refusing} (")
    assert ") answered 401: " in error
    assert "no answer" not in error
