"""The request of `sluice explain` is the one that curl would send with the same arguments."""

import argparse
import io
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.cli.commands import CommandError, UsageError
from sluice.cli.explain.curl import add_arguments, read_request
from sluice.explain.request import HttpRequest
from sluice.http.server import serve_in_thread

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
OWN_HEADERS = ("host", "user-agent")
"""Headers that depend on curl itself."""


def read(*arguments: str) -> HttpRequest:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("url")
    add_arguments(parser)
    return read_request(parser.parse_args(arguments))


@contextmanager
def recorder() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """The URL of a server, and the requests that it gets."""
    requests: list[dict[str, object]] = []

    async def record(request: Request) -> Response:
        body = await request.body()
        headers = {k: v for k, v in request.headers.items() if k not in OWN_HEADERS}
        requests.append(
            {
                "method": request.method,
                "path": request.scope["raw_path"].decode(),
                "query": request.url.query,
                "headers": headers,
                "body": body.decode(),
            }
        )
        return JSONResponse({})

    app = Starlette(routes=[Route("/{path:path}", record, methods=METHODS)])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=20) as address:
        yield f"http://{address}", requests


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "body.json"
    file.write_bytes(b'{"a":\r\n 1}\n')
    return file


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "command",
    [
        "/v2/models/a",
        "-X DELETE /v2/models/a?x=1&y=2",
        "-I /v2/models/a",
        "-d x /v2/models/a/infer",
        "-d a=1 -d b=2 /v2/models/a/infer",
        "-d '' /v2/models/a/infer",
        "-d @FILE /v2/models/a/infer",
        "--data-binary @FILE /v2/models/a/infer",
        "--data-binary @FILE -d x /v2/models/a/infer",
        "--data-raw @FILE /v2/models/a/infer",
        "-H 'Content-Type: application/json' -d {} /v2/models/a/infer",
        "-H 'Content-Type:' -d {} /v2/models/a/infer",
        "-H 'X-Empty;' -H 'X-None:' -H 'Accept: text/plain' /v2/models/a",
        "-XPUT -d{} -sS /v2/models/a",
        "-u name:password /v2/models/a",
        "-u name:password -H 'Authorization: Bearer x' /v2/models/a",
        "-b a=1 -e http://a.test/ -s -k -L --max-time 9 /v2/models/a#fragment",
    ],
)
def test_the_request_is_that_of_curl(command: str, data: Path) -> None:
    *arguments, path = shlex.split(command.replace("FILE", str(data)))
    with recorder() as (url, requests):
        subprocess.run(["curl", "-s", *arguments, url + path], check=True, capture_output=True)
        (expected,) = requests
    request = read(*arguments, url + path)
    before, _, query = request.path.partition("?")
    assert expected == {
        "method": request.method,
        "path": before,
        "query": query,
        "headers": {name: value.decode() for name, value in request.headers},
        "body": (request.body or b"").decode(),
    }


def test_the_body_comes_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo")))
    assert read("-d", "@-", "/x").body == b"onetwo"


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://127.0.0.1:8080/v2/models/a", "127.0.0.1:8080", "/v2/models/a"),
        ("https://user:secret@gateway.test/a?b=c#d", "gateway.test", "/a?b=c"),
        ("localhost:8080/a", "localhost:8080", "/a"),
        ("[::1]:8080", "[::1]:8080", "/"),
        ("/v2/models/a?b#c", "", "/v2/models/a?b"),
    ],
)
def test_a_url_or_a_path_is_taken(url: str, authority: str, path: str) -> None:
    request = read(url)
    assert (request.authority, request.path) == (authority, path)


@pytest.mark.parametrize(
    "url", ["gateway.yaml", "ftp://a/b", "http:///a", "v2/models/a", "http://["]
)
def test_another_url_is_an_error(url: str) -> None:
    with pytest.raises(UsageError, match="URL must be"):
        read(url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-H", "nonsense"], "-H must be"),
        (["-H", "@headers.txt"], "-H must be"),
        (["-X", "PO ST"], "-X must be"),
        (["-b", "cookies.txt"], "-b must be NAME=VALUE"),
    ],
)
def test_an_argument_that_is_not_valid_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(*arguments, "/x")


@pytest.mark.parametrize("option", ["-F", "--form", "-T", "-G", "-K", "--data-urlencode", "-x"])
def test_an_option_of_curl_that_changes_the_request_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        read(option, "value", "/x")
    assert end.value.code == 2
    assert f"{option} of curl is not supported" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(CommandError, match="absent: the file cannot be read: No such file"):
        read("-d", "@absent", "/x")


@pytest.mark.parametrize(
    ("arguments", "has_body"),
    [
        (["-X", "POST"], False),
        (["-X", "POST", "-H", "content-type: application/json"], True),
        (["-H", "content-type: application/json"], False),
        (["-X", "POST", "-H", "content-length: 5"], True),
        (["-d", ""], False),
        (["-d", "x"], True),
    ],
)
def test_a_media_type_means_a_body_that_is_not_given(arguments: list[str], has_body: bool) -> None:
    assert read(*arguments, "/x").has_body == has_body


def test_the_request_of_an_example_is_complete() -> None:
    request = read("-d", json.dumps({}), "/x")
    assert request == HttpRequest(
        "POST",
        "",
        "/x",
        (
            ("accept", b"*/*"),
            ("content-length", b"2"),
            ("content-type", b"application/x-www-form-urlencoded"),
        ),
        b"{}",
    )
