"""`sluice probe` tells a container whether its process is healthy."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from starlette.applications import Starlette

from sluice import probe
from sluice.http.probes import probe_routes
from sluice.http.server import serve_in_thread
from sluice.tls import TlsFiles
from tests.authority import Authority

READY = Event()


@contextmanager
def server(tls: TlsFiles | None = None) -> Iterator[str]:
    """A server of the gateway, with TLS or not. Yields its URL."""
    app = Starlette(routes=probe_routes(READY.is_set))
    with serve_in_thread(app, "127.0.0.1:0", max_requests=1, tls=tls) as address:
        yield f"{'http' if tls is None else 'https'}://{address}"


@pytest.fixture(params=["plain", "TLS with client certificates"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    files = None
    if request.param != "plain":
        authority = Authority("unknown")
        certificate, key = authority.issue("sluice-callout").write(tmp_path, "callout")
        (tmp_path / "ca.pem").write_bytes(authority.certificate)
        files = TlsFiles(certificate, key, tmp_path / "ca.pem")
    with server(files) as found:
        yield found


def test_the_status_is_that_of_the_probe(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    READY.clear()
    assert probe.main([f"{url}/healthz"]) == 0
    assert probe.main([f"{url}/healthz", f"{url}/readyz"]) == 1
    assert capsys.readouterr().err == f"{url}/readyz: answered 503\n"
    READY.set()
    assert probe.main([f"{url}/healthz", f"{url}/readyz?verbose"]) == 0


def test_a_server_that_does_not_listen_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert probe.main([f"http://127.0.0.1:{port}/readyz"]) == 1
    assert "Connection refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "not HTTP/1.1"),
        (b"SSH-2.0-x\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 ok\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 302 Found\r\n", "answered 302"),
        (b"x" * 1000, "not HTTP/1.1"),
    ],
)
def test_another_answer_is_not_healthy(
    answer: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = Thread(target=respond)
        thread.start()
        assert probe.main([f"http://127.0.0.1:{listener.getsockname()[1]}/"]) == 1
        thread.join()
    assert reason in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert probe.main([url, "--timeout", "0.1"]) == 1
    assert "timed out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://a/", "http:///", "http://a:x/", "http://a b"]
)
def test_a_url_that_is_none_is_an_error_of_the_command(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        probe.main([url])
    assert ended.value.code == 2
    assert "write a URL" in capsys.readouterr().err


def test_the_command_imports_nothing_of_the_others() -> None:
    code = (
        "import sys; sys.argv = ['sluice', 'probe', 'http://127.0.0.1:1/']; import sluice.cli; "
        "status = sluice.cli.main(); print(status, *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, *loaded = ran.stdout.split()
    assert status == "1"
    assert "sluice.probe" in loaded
    assert not {"pydantic", "yaml", "ssl", "asyncio", "sluice.config", "sluice.fetch"} & {*loaded}
