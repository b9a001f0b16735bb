"""The completion script in a real bash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.cli import main
from sluice.http.server import serve_in_thread

_COMPLETE = """
source "$1"; shift
COMP_WORDS=(sluice "$@"); COMP_CWORD=$#
_shtab_sluice
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of bash. A command `sluice`, which the script runs, is beside it."""
    folder = tmp_path_factory.mktemp("completion")
    ran = subprocess.run(
        [sys.executable, "-m", "sluice.cli", "completion", "bash"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    file = folder / "completion.bash"
    file.write_text(ran.stdout)
    command = folder / "sluice"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sluice.cli "$@"\n')
    command.chmod(0o755)
    return file


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words after `sluice`."""
    ran = subprocess.run(
        ["bash", "--norc", "-c", _COMPLETE, "bash", str(script), *words],
        capture_output=True, text=True, check=True, cwd=script.parent,
        env={**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    return ran.stdout.split()


def test_commands_and_nested_commands_are_completed(script: Path) -> None:
    assert completed(script, "con") == ["control-plane", "context"]
    assert completed(script, "context", "") == ["list", "use", "add", "remove"]


def test_options_and_their_values_are_completed(script: Path) -> None:
    assert "--running" in completed(script, "validate", "--")
    assert "unresolvable_host" in completed(script, "validate", "--ignore", "un")
    assert completed(script, "status", "--output", "") == ["table", "json", "yaml"]


def test_files_are_completed(script: Path) -> None:
    assert completed(script, "validate", "compl") == ["completion.bash"]
    assert completed(script, "validate", "--running", "compl") == ["completion.bash"]


def test_names_of_contexts_are_completed(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("prod", "preview", "lab"):
        assert main(["context", "add", name, "http://127.0.0.1:1"]) == 0
    assert completed(script, "status", "--context", "pr") == ["prod", "preview"]
    assert completed(script, "context", "use", "l") == ["lab"]


def test_names_of_models_are_completed(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def models(_: Request) -> Response:
        listed = [
            {"name": name, "type": None, "stable": "v1", "versions": ["v1"], "canaries": []}
            for name in ("digits", "sentiment")
        ]
        return JSONResponse({"models": listed})

    app = Starlette(routes=[Route("/v1/models", models)])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=5) as address:
        file = script.parent / "gateway.yaml"
        file.write_text(f"control_plane: {{http: '{address}'}}")
        monkeypatch.setenv("SLUICE_CONFIG", str(file))
        assert completed(script, "get", "model", "dig") == ["digits"]


def test_the_script_of_zsh_completes_the_same_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert "#compdef sluice" in script
    assert "_sluice_contexts() { compadd" in script
