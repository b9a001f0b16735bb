"""`sluice probe`: asks processes of a gateway whether they are live or ready.

Containers run it every few seconds, so it imports nothing of the other commands.
"""

import argparse
import socket
import sys
import time
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

DESCRIPTION = "ask for the health of processes, such as in the health check of a container"

_MAX_STATUS_LINE = 256


class _UnhealthyError(Exception):
    """A process is not as its probe expects."""


def main(arguments: Sequence[str]) -> int:
    """Run the command, without the parser of all commands. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="sluice probe", description=DESCRIPTION)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "urls", metavar="URL", nargs="+", type=_url,
        help="http:// or https:// URL of a probe, such as http://127.0.0.1:8081/readyz. The "
        "command sends no credentials, and does not verify certificates",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=3.0,
        help="time for each answer; default: %(default)g",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Ask all. Returns 0 if each answer has a status from 200 to 299, else 1."""
    failures = 0
    for url in options.urls:
        try:
            _check(url, options.timeout)
        except (OSError, _UnhealthyError) as error:
            print(f"{url.geturl()}: {error}", file=sys.stderr)
            failures += 1
    return 1 if failures else 0


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # The port is not a number, or too large.
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError("write a URL such as http://127.0.0.1:8081/readyz")
    return url


def _check(url: SplitResult, timeout: float) -> None:
    """Raises _UnhealthyError and OSError unless the answer is a success."""
    deadline = time.monotonic() + timeout
    line = _status_line(url, deadline)
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not status.isdigit():
        raise _UnhealthyError("the answer is not HTTP/1.1")
    if not status.startswith(b"2"):
        raise _UnhealthyError(f"answered {status.decode()}")


def _status_line(url: SplitResult, deadline: float) -> bytes:
    """The first line of the answer, or what there is of it."""
    encrypted = url.scheme == "https"
    port = url.port or (443 if encrypted else 80)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    request = (
        f"GET {path} HTTP/1.1\r\nhost: {url.netloc.rpartition('@')[2]}\r\n"
        "user-agent: sluice-probe\r\nconnection: close\r\n\r\n"
    )
    line = b""
    with _connected(url.hostname or "", port, deadline, encrypted=encrypted) as connection:
        connection.sendall(request.encode())
        while b"\n" not in line and len(line) < _MAX_STATUS_LINE:
            connection.settimeout(_left(deadline))
            received = connection.recv(_MAX_STATUS_LINE)
            if not received:
                break
            line += received
    return line


def _connected(host: str, port: int, deadline: float, *, encrypted: bool) -> socket.socket:
    connection = socket.create_connection((host, port), _left(deadline))
    if not encrypted:
        return connection
    # Only here: the module takes longer to import than a probe without TLS takes.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The probe sends nothing that is secret, and it has no certificate of an authority. It asks its
    # own container, by an address that is in no certificate.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection.settimeout(_left(deadline))
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
