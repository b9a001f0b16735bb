"""Reads a request from arguments in curl's syntax.

The request is the one that curl would send: method, default headers and body follow curl's rules,
so that a user can replace `curl` by `sluice explain` and keep the arguments. Arguments that have no
effect on a decision are accepted and ignored. Arguments that would change the request in a way that
is not supported are refused.
"""

import argparse
import base64
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sluice.cli.commands import CommandError, UsageError, read_argument
from sluice.explain.request import HttpRequest

MAX_DATA = 256 << 20
"""Bytes of the body. No gateway accepts a larger one: a worker could not hold it."""

_FORM = "application/x-www-form-urlencoded"
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}(?=[/?]|\Z)")

_IGNORED_FLAGS = (
    ("-s", "--silent"), ("-S", "--show-error"), ("-i", "--include"), ("-v", "--verbose"),
    ("-k", "--insecure"), ("-L", "--location"), ("-f", "--fail"), ("--fail-with-body",),
    ("-N", "--no-buffer"), ("-#", "--progress-bar"), ("-g", "--globoff"), ("--path-as-is",),
    ("--http1.1",), ("--http2",), ("--http2-prior-knowledge",), ("-4", "--ipv4"), ("-6", "--ipv6"),
)  # fmt: skip
_IGNORED_WITH_VALUE = (
    ("-o", "--output"), ("-w", "--write-out"), ("-m", "--max-time"), ("--connect-timeout",),
    ("--retry",), ("-c", "--cookie-jar"), ("-D", "--dump-header"), ("--cacert",), ("-E", "--cert"),
    ("--key",), ("--resolve",),
)  # fmt: skip
_REFUSED = (
    ("-F", "--form"), ("-T", "--upload-file"), ("-G", "--get"), ("-K",), ("--data-urlencode",),
    ("-x", "--proxy"), ("--unix-socket",),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add curl's arguments. The parser must not abbreviate options."""
    parser.add_argument(
        "-X", "--request", "--method", metavar="METHOD", dest="method",
        help="method of the request; default as in curl: POST with data, else GET",
    )  # fmt: skip
    parser.add_argument(
        "-H", "--header", action="append", default=[], metavar="NAME: VALUE",
        help="header of the request; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "-d", "--data", "--data-ascii", action="append", default=[], metavar="DATA",
        dest="data", type=lambda text: ("text", text),
        help="body of the request: text, @FILE, or @- for stdin, without line breaks; may be "
        "repeated",
    )  # fmt: skip
    parser.add_argument(
        "--data-binary", action="append", metavar="DATA", dest="data",
        type=lambda text: ("binary", text), help="as --data, with line breaks",
    )  # fmt: skip
    parser.add_argument(
        "--data-raw", action="append", metavar="DATA", dest="data",
        type=lambda text: ("raw", text), help="as --data, but @ has no special meaning",
    )  # fmt: skip
    parser.add_argument("-I", "--head", action="store_true", help="method HEAD")
    parser.add_argument("-u", "--user", metavar="NAME:PASSWORD", help="Basic credentials")
    parser.add_argument("-A", "--user-agent", metavar="TEXT", help="header user-agent")
    parser.add_argument("-e", "--referer", metavar="URL", help="header referer")
    parser.add_argument("-b", "--cookie", metavar="NAME=VALUE", help="header cookie")
    parser.add_argument("--compressed", action="store_true", help="header accept-encoding")
    for names in _IGNORED_FLAGS:
        parser.add_argument(*names, action="store_true", help=argparse.SUPPRESS)
    for names in _IGNORED_WITH_VALUE:
        parser.add_argument(*names, help=argparse.SUPPRESS)
    for names in _REFUSED:
        parser.add_argument(*names, action=_Refused, help=argparse.SUPPRESS)


class _Refused(argparse.Action):
    """An argument of curl that is not supported. Its value, if any, is not read."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002 (the name in argparse)
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _namespace: argparse.Namespace,
        _values: object,
        option: str | None = None,
    ) -> None:
        parser.error(f"{option} of curl is not supported; give the request with -X, -H and -d")


def read_request(options: argparse.Namespace) -> HttpRequest:
    """The request. Raises UsageError, and CommandError if a file cannot be read."""
    authority, path = _split_url(options.url)
    body = _body(options.data)
    method = options.method or ("HEAD" if options.head else "GET" if body is None else "POST")
    if not method.isascii() or not method.isalpha():
        raise UsageError("-X must be the name of a method, such as POST")
    headers = dict(_default_headers(options, body))
    given: list[tuple[str, bytes]] = []
    for text in options.header:
        name, value = _header(text)
        # A header replaces curl's own header of the same name. One without a value removes it.
        headers.pop(name, None)
        if value is not None:
            given.append((name, value))
    if ("transfer-encoding", b"chunked") in given:
        headers.pop("content-length", None)
    return HttpRequest(method, authority, path, (*headers.items(), *given), body)


def _split_url(url: str) -> tuple[str, str]:
    """Host and port (empty for a path without them), and the path with the query."""
    if url.startswith("/") and not url.startswith("//"):
        return "", url.partition("#")[0]
    if _HOST_PORT.match(url):
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme.lower() not in ("http", "https"):
        raise UsageError("URL must be http://HOST:PORT/PATH, HOST:PORT/PATH or /PATH")
    path = parts.path or "/"
    return parts.netloc.rpartition("@")[2], f"{path}?{parts.query}" if parts.query else path


def _default_headers(
    options: argparse.Namespace, body: bytes | None
) -> Iterator[tuple[str, bytes]]:
    """The headers that curl adds."""
    yield "accept", b"*/*"
    if options.user is not None:
        yield "authorization", b"Basic " + base64.b64encode(options.user.encode())
    for name in ("user_agent", "referer"):
        value = getattr(options, name)
        if value is not None:
            yield name.replace("_", "-"), value.encode()
    if options.cookie is not None:
        if "=" not in options.cookie:
            raise UsageError("-b must be NAME=VALUE: a file with cookies is not supported")
        yield "cookie", options.cookie.encode()
    if options.compressed:
        yield "accept-encoding", b"deflate, gzip, br, zstd"
    if body is not None:
        yield "content-length", str(len(body)).encode()
        yield "content-type", _FORM.encode()


def _header(text: str) -> tuple[str, bytes | None]:
    """Name and value of a header; None if it removes a header of curl."""
    name, colon, value = text.partition(":")
    if not colon and text.endswith(";"):
        return text[:-1].strip().lower(), b""
    if not colon or not name.strip() or text.startswith("@"):
        raise UsageError("-H must be 'NAME: VALUE'")
    stripped = value.strip()
    return name.strip().lower(), stripped.encode() if stripped else None


def _body(data: Sequence[tuple[str, str]]) -> bytes | None:
    """The body; None without data. Several data are joined by `&`, as curl does."""
    return b"&".join(_content(kind, text) for kind, text in data) if data else None


def _content(kind: str, text: str) -> bytes:
    if kind == "raw" or not text.startswith("@"):
        return text.encode()
    content = _read(text[1:])
    return content if kind == "binary" else re.sub(rb"[\r\n\0]", b"", content)


def _read(name: str) -> bytes:
    if name == "-":
        content = sys.stdin.buffer.read(MAX_DATA + 1)
        if len(content) > MAX_DATA:
            raise CommandError(f"stdin has more than {MAX_DATA >> 20} MiB")
        return content
    return read_argument(Path(name), MAX_DATA)
