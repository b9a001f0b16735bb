"""Contexts name gateways: which one a command asks, and with which credentials."""

import json
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.cli import main
from sluice.http.server import serve_in_thread

TOKEN = "sla_0123456789abcdef"
MODELS = "models:\n  a: {versions: {v1: {endpoints: [{address: '127.0.0.1:9001'}]}}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the file with the contexts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    return tmp_path / "sluice"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@contextmanager
def control_plane() -> Iterator[tuple[str, list[str | None]]]:
    """The URL of a server without a status, and the credentials of each request."""
    seen: list[str | None] = []

    async def status(request: Request) -> Response:
        seen.append(request.headers.get("authorization"))
        return JSONResponse({"detail": "no token, no status"}, 401)

    app = Starlette(routes=[Route("/v1/status", status)])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=5) as address:
        yield f"http://{address}", seen


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 5) -> str:
    assert main([*map(str, arguments)]) == status
    return capsys.readouterr().err


def add(name: str, url: str, *more: object) -> None:
    assert main(["context", "add", name, url, *map(str, more)]) == 0


def test_the_first_context_becomes_the_current_one(capsys: pytest.CaptureFixture[str]) -> None:
    add("a", "http://127.0.0.1:2")
    add("b", "http://127.0.0.1:3")
    assert "http://127.0.0.1:2 (the current context a, from " in error_of(capsys, "status")
    assert main(["context", "use", "b"]) == 0
    assert "http://127.0.0.1:3 (the current context b, from " in error_of(capsys, "status")
    assert main(["context", "remove", "b"]) == 0
    assert "(the default address; " in error_of(capsys, "explain", "/x")


def test_an_option_comes_before_a_config_and_a_config_before_the_current_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add("a", "http://127.0.0.1:2")
    add("b", "http://127.0.0.1:3")
    config = tmp_path / "gateway.yaml"
    config.write_text(f"{MODELS}control_plane: {{http: '127.0.0.1:4'}}\n")
    assert "http://127.0.0.1:4 (control_plane.http in " in error_of(capsys, "status", config)
    monkeypatch.setenv("SLUICE_CONFIG", str(config))
    assert "from SLUICE_CONFIG" in error_of(capsys, "status")
    named = error_of(capsys, "status", config, "--context", "b")
    assert "at http://127.0.0.1:3 (the context b): " in named
    both = error_of(capsys, "status", "--context", "b", "--url", "http://127.0.0.1:9", status=2)
    assert "--control-plane excludes --context" in both


def test_the_token_of_a_context_is_sent_and_never_printed(
    token: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with control_plane() as (url, seen):
        add("a", url, "--token-file", token)
        error = error_of(capsys, "status", status=6)
        assert "answered 401: no token, no status" in error
        assert "hint: give a token with --token-file FILE" in error
        error_of(capsys, "status", "--url", url, status=6)
        error_of(capsys, "status", "--url", url, "--token-file", token, status=6)
    assert seen == [f"Bearer {TOKEN}", None, f"Bearer {TOKEN}"]
    for output in ("table", "json", "yaml"):
        assert main(["context", "list", "--output", output]) == 0
        printed = capsys.readouterr()
        assert str(token) in printed.out
        assert TOKEN not in printed.out + printed.err
    file = folder / "contexts.yaml"
    assert TOKEN not in file.read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_token_is_not_sent_in_plain_text_over_a_network(
    token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = error_of(
        capsys, "context", "add", "a", "http://192.0.2.1:1", "--token-file", token, status=2
    )
    assert "a token needs a URL that begins with https" in refused
    sent = error_of(
        capsys, "status", "--url", "http://192.0.2.1:1", "--token-file", token, status=6
    )
    assert "the token is not sent to http://192.0.2.1:1" in sent


@pytest.mark.parametrize("content", [b"", b"two words", b"line\x00", b"x" * 2000, "é".encode()])
def test_a_token_file_that_cannot_be_used_is_an_error_that_does_not_show_it(
    content: bytes, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token.write_bytes(content)
    error = error_of(
        capsys, "status", "--url", "http://127.0.0.1:1", "--token-file", token, status=6
    )
    assert f"token file {token}: " in error
    assert not content or content.decode() not in error


def test_a_context_has_a_name_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    add("prod", "http://127.0.0.1:2")
    again = ("context", "add", "prod", "http://127.0.0.1:3")
    assert "hint: replace it with --replace" in error_of(capsys, *again, status=2)
    assert main([*again, "--replace"]) == 0
    assert main(["context", "list", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["current"] == "prod"
    assert found["contexts"]["prod"]["url"] == "http://127.0.0.1:3"
    unknown = error_of(capsys, "status", "--context", "prd", status=2)
    assert "no context prd; did you mean prod?" in unknown
    assert "hint: `sluice context list`" in unknown


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("contexts: {a: {url: nowhere}}", "contexts.a.url: "),
        ("contexts: {a: {url: 'http://u:p@h:1'}}", "contexts.a.url: "),
        ("contexts: [", ""),
        ("token: secret", "token: "),
    ],
)
def test_an_invalid_file_is_named(
    text: str, problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    (folder / "contexts.yaml").write_text(text)
    error = error_of(capsys, "status", status=2)
    assert f"{folder}/contexts.yaml: {problem}" in error
    assert "secret" not in error
    assert "u:p" not in error


def test_a_failed_handshake_has_a_hint_about_the_ca(capsys: pytest.CaptureFixture[str]) -> None:
    with control_plane() as (url, seen):
        error = error_of(capsys, "status", "--url", url.replace("http:", "https:"))
    assert error.endswith("sluice context add NAME URL --ca FILE\n")
    assert seen == []


def test_a_user_without_a_home_has_no_contexts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(_: int) -> pwd.struct_passwd:
        raise KeyError

    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    # The user of a container may have no entry.
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert main(["context", "list", "--names"]) == 0
    error = error_of(capsys, "context", "add", "a", "http://127.0.0.1:1", status=2)
    assert "set XDG_CONFIG_HOME" in error
