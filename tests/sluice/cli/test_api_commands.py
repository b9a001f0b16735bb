"""Commands that read and change the config of a running control plane."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from protos.discovery_pb2 import DiscoveryResponse
from sluice.cli import main
from sluice.cli.exit_status import ExitStatus
from sluice.http.server import serve_in_thread
from tests import plain_http
from tests.integration.gateway import eventually, free_ports
from tests.terminal import Terminal
from tests.xds.live_node import live_node

POISON = "poison"
"""The name of a model whose policy the node rejects."""

SECRET_HASH = "5" * 64


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane. `file` is the config with which it started."""

    url: str
    xds: str
    file: Path

    @property
    def config(self) -> dict[str, Any]:
        """The first config, to edit."""
        found: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return found

    def write(self, folder: Path, config: dict[str, Any]) -> Path:
        """A config file."""
        file = folder / "edited.yaml"
        file.write_text(yaml.safe_dump(config))
        return file


def model(*addresses: str) -> dict[str, Any]:
    endpoints = [{"address": address} for address in addresses]
    versions = {"v1": {"endpoints": endpoints}, "v2": {"endpoints": endpoints[:1]}}
    return {"stable": "v1", "versions": versions}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane whose history is in memory."""
    folder = tmp_path_factory.mktemp("plane")
    http, xds, metrics = (f"127.0.0.1:{port}" for port in free_ports(3))
    config = {
        "control_plane": {"http": http, "xds": xds, "ack_timeout": "2s"},
        "telemetry": {"metrics": {"address": metrics}},
        "auth": {"api_keys": [{"name": "k", "sha256": SECRET_HASH}]},
        "models": {
            "digits": {
                **model("127.0.0.1:9001", "127.0.0.1:9002"),
                "canaries": [{"version": "v2", "percent": 10}],
            }
        },
    }
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "sluice.cli", "control-plane", str(file), "--store", "memory"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=folder) as process:
        try:
            eventually(lambda: _is_ready(http), 30)
            yield ControlPlane(f"http://{http}", xds, file)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def _is_ready(address: str) -> bool:
    try:
        return plain_http.get(f"http://{address}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True, slots=True)
class Result:
    """What a command has printed."""

    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands for the control plane in this process."""

    plane: ControlPlane
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, status: int = ExitStatus.OK) -> Result:
        found = main([*map(str, arguments), "--control-plane", self.plane.url])
        printed = self.capsys.readouterr()
        assert found == status, printed.err
        return Result(printed.out, printed.err)

    @property
    def head(self) -> int:
        """The number of the last revision."""
        return int(self("history", "--limit", 1, "-o", "json").data["head"])


@pytest.fixture
def sluice(
    plane: ControlPlane,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Commands:
    """The commands, after the config is the first one again."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    commands = Commands(plane, capsys)
    commands("rollback", 1, "--yes", "--reason", "next test")
    return commands


# --- apply and diff


def test_apply_shows_the_changes_and_makes_them(
    plane: ControlPlane, sluice: Commands, tmp_path: Path
) -> None:
    before = sluice.head
    config = plane.config
    config["models"]["digits"]["canaries"][0]["percent"] = 25
    config["models"]["new"] = model("127.0.0.1:9009")
    edited = plane.write(tmp_path, config)
    compared = sluice("diff", "-f", edited)
    assert "~ /models/digits/canaries/0/percent: 10 -> 25\n" in compared.out
    assert "+ /models/new:\n" in compared.out
    assert "+       - address: 127.0.0.1:9009\n" in compared.out
    assert sluice.head == before
    sluice("diff", "-f", edited, "--exit-code", status=ExitStatus.DIFFERENT)
    applied = sluice("apply", "-f", edited, "--reason", "more users")
    assert applied.out.startswith(compared.out)
    assert f"revision {before + 1}, version " in applied.out
    listed = sluice("history", "-o", "json").data["revisions"][0]
    assert (listed["revision"], listed["reason"]) == (before + 1, "more users")
    assert "no changes: revision" in sluice("diff", "-f", edited, "--exit-code").out
    assert "nothing to change" in sluice("apply", "-f", edited).out
    assert sluice.head == before + 1


def test_a_dry_run_changes_nothing(plane: ControlPlane, sluice: Commands, tmp_path: Path) -> None:
    before = sluice.head
    config = plane.config
    config["models"]["new"] = model("127.0.0.1:9009")
    edited = plane.write(tmp_path, config)
    shown = sluice("apply", "-f", edited, "--dry-run", "-o", "json").data
    assert shown["dry_run"] is True
    assert [each["path"] for each in shown["changes"]] == ["/models/new"]
    assert (
        "not changed (dry run)" in sluice("drain", "digits/v1", "127.0.0.1:9001", "--dry-run").out
    )
    assert sluice.head == before


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("diff", "-f", "FILE", "--strict"), "/v1/config/diff"),
        (("apply", "-f", "FILE", "--strict", "--allow-disruption"), "/v1/config"),
    ],
)
def test_the_options_of_a_check_are_sent(
    arguments: tuple[str, ...],
    path: str,
    plane: ControlPlane,
    capsys: pytest.CaptureFixture[str],
) -> None:
    queries: list[dict[str, str]] = []

    async def refuse(request: Request) -> Response:
        queries.append(dict(request.query_params))
        problem = {"reason": "strict_unavailable", "detail": "there is no Envoy here"}
        return JSONResponse(problem, 503)

    app = Starlette(routes=[Route(path, refuse, methods=["PUT", "POST"])])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=5) as address:
        words = [str(plane.file) if word == "FILE" else word for word in arguments]
        assert main([*words, "--control-plane", f"http://{address}"]) == ExitStatus.FAILED
    error = capsys.readouterr().err
    assert error.endswith(
        "there is no Envoy here\n"
        "hint: install Envoy beside the control plane, or leave out --strict\n"
    )
    (query,) = queries
    assert query["strict"] == "true"
    assert query.get("allow_disruption") == ("true" if arguments[0] == "apply" else None)


def test_an_error_names_the_line_and_key_of_the_file(
    plane: ControlPlane, sluice: Commands, tmp_path: Path
) -> None:
    edited = tmp_path / "edited.yaml"
    edited.write_text(plane.file.read_text() + "listner: {}\n")
    lines = len(edited.read_text().splitlines())
    for command in ("apply", "diff"):
        error = sluice(command, "-f", edited, status=ExitStatus.USAGE).err
        assert f"{edited}:{lines}: listner: unknown key; did you mean listener?" in error
        assert "\nhint: correct the config" in error


def test_a_change_of_another_operator_is_a_conflict(
    plane: ControlPlane, sluice: Commands, tmp_path: Path
) -> None:
    base = sluice.head
    sluice("canary", "set", "digits/v2", "20", "--if-version", base)
    config = plane.config
    config["models"]["digits"]["canaries"][0]["percent"] = 30
    edited = plane.write(tmp_path, config)
    error = sluice("apply", "-f", edited, "--if-version", base, status=ExitStatus.CONFLICT).err
    assert f"the last revision is {base + 1}" in error
    assert "hint: see what has changed with `sluice history`" in error
    sluice("apply", "-f", edited, "--if-version", base + 1)


def test_a_person_at_a_terminal_is_asked(
    plane: ControlPlane, sluice: Commands, tmp_path: Path
) -> None:
    before = sluice.head
    config = plane.config
    config["models"]["digits"]["canaries"][0]["percent"] = 40
    command = ("apply", "-f", str(plane.write(tmp_path, config)), "--control-plane", plane.url)
    for answer, status in (("n\n", ExitStatus.FAILED), ("y\n", ExitStatus.OK)):
        terminal = Terminal(*command)
        shown = terminal.read(lambda text: "[y/N] " in text)
        assert "10 -> 40" in shown
        terminal.write(answer)
        assert terminal.end() == status, terminal.output
        changed = status == ExitStatus.OK
        assert ("nothing has changed" in terminal.output) != changed
        assert sluice.head == before + changed


# --- waiting for nodes


def rejects_poison(response: DiscoveryResponse) -> bool:
    return not any(POISON.encode() in resource.value for resource in response.resources)


def test_wait_ends_when_every_node_has_accepted_the_config(
    plane: ControlPlane, sluice: Commands
) -> None:
    with live_node(plane.xds, "node-1", rejects_poison):
        eventually(lambda: "node-1" in sluice("get", "nodes").out)
        waited = sluice("canary", "set", "digits/v2", "55", "--wait", "-o", "json")
        assert f"revision {waited.data['revision']} is in force, accepted by 1 nodes" in waited.err
        nodes = sluice("get", "nodes", "-o", "json").data
        assert [(each["id"], each["state"]) for each in nodes["nodes"]] == [("node-1", "ack")]
        assert nodes["nodes"][0]["version"] == waited.data["version"]
        terminal = Terminal(
            "weight", "digits/v1", "127.0.0.1:9001", "5", "--wait", "--control-plane", plane.url
        )
        assert terminal.end() == 0
        assert "node-1" in terminal.output


def test_wait_fails_when_a_node_rejects_the_config(
    plane: ControlPlane, sluice: Commands, tmp_path: Path
) -> None:
    config = plane.config
    config["models"][POISON] = model("127.0.0.1:9009")
    edited = plane.write(tmp_path, config)
    with live_node(plane.xds, "node-2", rejects_poison):
        eventually(lambda: "node-2" in sluice("get", "nodes").out)
        error = sluice("apply", "-f", edited, "--wait", status=ExitStatus.REJECTED).err
    assert "is rejected: " in error
    assert "this node takes no poison" in error
    assert "hint: the last good config is in force" in error


def test_wait_has_a_bound(plane: ControlPlane, sluice: Commands) -> None:
    released = threading.Event()
    seen = threading.Event()

    def accepts_first(_: DiscoveryResponse) -> bool:
        """Accept the config with which the node starts, and answer no other one."""
        if seen.is_set():
            released.wait(60)
        seen.set()
        return True

    with live_node(plane.xds, "node-3", accepts_first):
        eventually(lambda: "node-3" in sluice("get", "nodes").out)
        assert seen.wait(60)
        error = sluice(
            "canary", "abort", "digits/v2", "--wait", "--timeout", "0.5",
            status=ExitStatus.TIMED_OUT,
        ).err  # fmt: skip
        released.set()
    assert "after 0.5 s, not all nodes have accepted revision" in error
    assert ": 1 pending\n" in error


# --- reads


def test_parts_of_the_config_are_shown_without_secrets(
    plane: ControlPlane, sluice: Commands
) -> None:
    config = yaml.safe_load(sluice("get", "config").out)
    assert config["models"] == plane.config["models"]
    assert config["auth"]["api_keys"] == [{"name": "k", "sha256": "(redacted)"}]
    assert SECRET_HASH not in sluice("get", "config", "--defaults", "-o", "json").out
    assert "listener" not in config
    found = sluice("get", "model", "digits", "-o", "json").data
    assert found["canaries"] == [{"version": "v2", "percent": 10}]
    unknown = sluice("get", "model", "absent", status=ExitStatus.USAGE).err
    assert unknown.endswith("hint: `sluice get models` lists the models\n")


def test_models_endpoints_and_canaries_are_listed(sluice: Commands) -> None:
    header, row = sluice("get", "models").out.splitlines()
    assert header.split() == ["MODEL", "TYPE", "STABLE", "VERSIONS", "CANARIES"]
    assert row.split() == ["digits", "-", "v1", "v1,", "v2", "v2", "10", "%"]
    assert sluice("get", "models", "--names").out == "digits\n"
    sluice("drain", "digits/v1", "127.0.0.1:9002")
    sluice("weight", "digits/v1", "127.0.0.1:9001", "7", "--wait")
    _, *rows = (line.split() for line in sluice("get", "endpoints").out.splitlines())
    assert [row[:4] for row in rows] == [
        ["digits/v1", "127.0.0.1:9001", "7", "-"],
        ["digits/v1", "127.0.0.1:9002", "1", "yes"],
        ["digits/v2", "127.0.0.1:9001", "1", "-"],
    ]
    sluice("undrain", "digits/v1", "127.0.0.1:9002", "--wait")
    assert " yes " not in sluice("get", "endpoints").out
    assert sluice("canary", "status").out.splitlines()[1].split() == [
        "digits", "v2", "10", "%", "v1", "-", "-", "by", "hand",
    ]  # fmt: skip


def test_the_limits_of_the_gateway_are_exported(
    plane: ControlPlane, sluice: Commands, tmp_path: Path
) -> None:
    descriptor = {"key": "user", "rate_limit": {"unit": "hour", "requests_per_unit": 3}}
    config = {**plane.config, "limits": {"domains": {"mesh": {"descriptors": [descriptor]}}}}
    sluice("apply", "-f", plane.write(tmp_path, config))
    assert yaml.safe_load(sluice("export", "ratelimit").out) == {
        "domain": "mesh", "descriptors": [descriptor],
    }  # fmt: skip


def test_breakers_are_not_known_without_a_worker(sluice: Commands) -> None:
    assert "unknown: no worker has reported lately" in sluice("get", "breakers").out


# --- history and canaries


def test_a_canary_is_promoted_and_the_promotion_rolled_back(sluice: Commands) -> None:
    before = sluice.head
    sluice("canary", "promote", "digits/v2", "--reason", "good")
    promoted = sluice("history", before + 1)
    assert "~ /models/digits/stable: v1 -> v2\n" in promoted.out
    assert "reason    good\n" in promoted.out
    assert "no model has a canary" in sluice("canary", "status").out
    gone = sluice("canary", "abort", "digits/v2", status=ExitStatus.USAGE).err
    assert "hint: `sluice canary status` lists the canaries" in gone
    back = sluice("rollback", before)
    assert "~ /models/digits/stable: v2 -> v1\n" in back.out
    assert sluice("history", before + 2, "--from", before, "-o", "json").data["changes"] == []
    absent = sluice("rollback", 9999, status=ExitStatus.USAGE).err
    assert "hint: `sluice history` lists the revisions" in absent


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("canary", "set", "digits", "5"), "write MODEL/VERSION, not digits"),
        (("canary", "set", "digits/v2", "101"), "write a number from 0 to 100"),
        (("weight", "digits/v1", "a:1", "0"), "write a whole number from 1 to 128"),
        (("history", "0"), "write a whole number from 1 to "),
    ],
)
def test_an_invalid_argument_is_an_error_that_says_what_to_write(
    arguments: tuple[str, ...], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*arguments])
    assert end.value.code == ExitStatus.USAGE
    assert remedy in capsys.readouterr().err


# --- events


def test_events_are_followed_and_resumed_after_an_id(plane: ControlPlane, sluice: Commands) -> None:
    command = [sys.executable, "-m", "sluice.cli", "events", "--kind", "revision"]
    command += ["--control-plane", plane.url, "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        # The stream has begun when a change arrives; changes before that are not shown.
        found: list[dict[str, Any]] = []
        percent = 50

        def arrives() -> bool:
            nonlocal percent
            percent += 1
            sluice("canary", "set", "digits/v2", percent)
            ready, _, _ = select([following.stdout], [], [], 0.5)
            return bool(ready)

        eventually(arrives, 30)
        found.append(json.loads(following.stdout.readline()))
        following.send_signal(signal.SIGINT)
        following.wait(60)
    (first,) = found
    sluice("canary", "set", "digits/v2", "99", "--reason", "one\x1b[2J")
    head = sluice.head
    after = sluice(
        "events", "--after", first["id"], "--kind", "revision", "--count", 1, "-o", "json"
    ).data
    assert after["data"]["revision"] == first["data"]["revision"] + 1
    table = sluice(
        "events", "--after", first["id"], "--kind", "revision",
        "--count", head - first["data"]["revision"],
    ).out  # fmt: skip
    assert f"revision={head} " in table.splitlines()[-1]
    assert "\x1b" not in table
