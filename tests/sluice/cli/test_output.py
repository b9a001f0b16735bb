"""What commands print: tables for people at a terminal, plain columns and data elsewhere."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.cli import main
from sluice.cli.output import Cell, Field, Line, Row, Table, plain, serialized
from sluice.http.server import serve_in_thread
from tests.terminal import Terminal

HOSTILE = "a\x1b]0;owned\x07\u202eb"


@pytest.fixture(autouse=True)
def _contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["context", "add", "prod", "http://127.0.0.1:1"]) == 0


def test_plain_text_has_aligned_columns_and_no_control_characters() -> None:
    rows = [Row(("a", Cell("open", "bad")), ("why",)), Row(("longer", HOSTILE))]
    view = [Field("version", HOSTILE), Line(), Table(("NAME", "STATE"), rows)]
    escaped = "a\\x1b]0;owned\\x07\\u202eb"
    assert list(plain(view)) == [
        f"version   {escaped}", "", "NAME    STATE", "a       open", "        why",
        f"longer  {escaped}",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_data_is_printed_in_ascii(name: str, read: Callable[[str], object]) -> None:
    text = serialized(name, {"text": HOSTILE, "items": (1, None)})
    assert text.isascii()
    assert all(line.isprintable() for line in text.split("\n"))
    assert read(text) == {"text": HOSTILE, "items": [1, None]}


def test_a_terminal_gets_colours_unless_no_color_is_set() -> None:
    coloured = Terminal("context", "list")
    assert coloured.end() == 0
    assert "\x1b[32m*" in coloured.output
    without = Terminal("context", "list", environment={"NO_COLOR": "1"})
    assert without.end() == 0
    assert "prod" in without.output
    assert "\x1b[32m" not in without.output


def test_output_to_a_pipe_has_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["context", "list"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "URL", "TOKEN", "FILE", "CA"]
    assert row.split() == ["*", "prod", "http://127.0.0.1:1", "-", "-"]


def status_server() -> Starlette:
    """A control plane whose version is the number of requests for its status."""
    requests = 0

    async def status(_: Request) -> Response:
        nonlocal requests
        requests += 1
        return JSONResponse({
            "version": f"v{requests}-{HOSTILE}", "in_sync": True, "step": None, "config": "file",
            "error": None, "unresponsive": [], "restart_required": [], "nodes": [],
            "xds": "127.0.0.1:1", "callout": "127.0.0.1:1", "breakers": {"known": False},
        })  # fmt: skip

    return Starlette(routes=[Route("/v1/status", status)])


def test_the_status_is_shown_anew_until_an_interrupt() -> None:
    with serve_in_thread(status_server(), "127.0.0.1:0", max_requests=5) as address:
        watching = Terminal("status", "--watch", "--url", f"http://{address}")
        shown = watching.read(lambda text: "v2-a" in text and "v3-a" in text)
        watching.process.send_signal(signal.SIGINT)
        assert watching.end() == 130
    assert "\\x1b]0;owned" in shown
    assert "\x1b]0;owned" not in shown
    assert "Traceback" not in watching.output


def test_watched_json_has_one_line_for_each_status() -> None:
    with serve_in_thread(status_server(), "127.0.0.1:0", max_requests=5) as address:
        command = [sys.executable, "-m", "sluice.cli", "status", "--watch", "--json"]
        with subprocess.Popen(
            [*command, "--url", f"http://{address}"], stdout=subprocess.PIPE, text=True
        ) as watching:
            assert watching.stdout is not None
            found = [json.loads(watching.stdout.readline())["version"] for _ in range(2)]
            watching.send_signal(signal.SIGINT)
    assert [each.partition("-")[0] for each in found] == ["v2", "v3"]


@pytest.mark.parametrize(
    "text", ["1e3", "1e-3", "12345e7", "1.5E3", "1_0e3", "0o17", "0X1F", "0B1", "1.", "17", "on"]
)
def test_a_text_that_looks_like_a_number_is_quoted_in_yaml(text: str) -> None:
    """Kubernetes reads YAML 1.2, where more texts are numbers."""
    assert serialized("yaml", {"name": text}) == f"name: '{text}'\n"


def test_numbers_and_names_need_no_quotes_in_yaml() -> None:
    data = {"a": 1, "b": 1.5, "c": -2, "d": 1e300, "e": "v1", "f": "1e3x", "g": "2.1.0"}
    assert "'" not in serialized("yaml", data)
    assert yaml.safe_load(serialized("yaml", data)) == data
