"""A request as exact bytes, and the response to it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.integration.equality.tokens import Credential

Header = tuple[bytes, bytes]

AUTHORITY = b"gateway.test"

_NOT_IN_HTTP2 = frozenset((b"connection", b"upgrade", b"keep-alive", b"transfer-encoding"))


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request. Names of headers are sent as they are, over HTTP/2 too.

    Two requests are equal only if they are the same object.

    `body` is None for a request that ends with its headers. Without `content-length`, HTTP/1.1
    sends a body in chunks.
    """

    method: bytes
    path: bytes
    headers: tuple[Header, ...]
    body: bytes | None = None
    http2: bool = False
    credential: Credential | None = None
    """The credential of the header `authorization`, for edits of the token."""
    trailers: tuple[Header, ...] = ()
    """Fields after the body, which is in chunks in HTTP/1.1."""
    authority: bytes = AUTHORITY
    edit: str = ""
    """What makes this request differ from one that is admitted; empty for one that is."""

    def values(self, name: bytes) -> list[bytes]:
        """The values of all headers with this name."""
        return [value for key, value in self.headers if key.lower() == name]

    def with_header(self, name: bytes, value: bytes | None) -> "Request":
        """This request with one header replaced; without it if the value is None."""
        kept = [each for each in self.headers if each[0].lower() != name]
        if value is not None:
            kept.append((name, value))
        return replace(self, headers=tuple(kept))

    def adding(self, *headers: Header) -> "Request":
        """This request with headers at the end, also if it has some with the same names."""
        return replace(self, headers=(*self.headers, *headers))

    def with_body(self, body: bytes) -> "Request":
        """This request with a body and its length."""
        length = str(len(body)).encode()
        return replace(self.with_header(b"content-length", length), body=body)

    def with_credential(self, credential: Credential) -> "Request":
        """This request with the token of a credential."""
        header = b"Bearer " + credential.token()
        return replace(self.with_header(b"authorization", header), credential=credential)

    @property
    def ends_http2(self) -> bool:
        """Whether Envoy answers this request over HTTP/2 by ending the connection, with all streams
        (RFC 9113 sections 8.2 and 8.3).
        """
        names = [name for name, _ in self.headers]
        forbidden = any(n in _NOT_IN_HTTP2 or n != n.lower() for n in names)
        return forbidden or not self.path.startswith(b"/") or b"\x7f" in self.path

    def is_sent_as(self, other: "Request") -> bool:
        """Whether both requests are the same bytes."""
        return self.http2 == other.http2 and self.http1() == other.http1()

    def http1(self) -> bytes:
        """The request in HTTP/1.1 (RFC 9112)."""
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (self.method, self.path, self.authority)]
        lines += [b"%b: %b\r\n" % each for each in self.headers]
        if self.body is None:
            return b"".join((*lines, b"\r\n"))
        if self.values(b"content-length"):
            return b"".join((*lines, b"\r\n", self.body))
        chunk = b"%x\r\n%b\r\n" % (len(self.body), self.body) if self.body else b""
        last = b"0\r\n" + b"".join(b"%b: %b\r\n" % each for each in self.trailers) + b"\r\n"
        return b"".join((*lines, b"transfer-encoding: chunked\r\n\r\n", chunk, last))

    def http2_headers(self) -> Iterator[Header]:
        """The fields of the HEADERS frame (RFC 9113 section 8.3.1)."""
        yield b":method", self.method
        yield b":scheme", b"http"
        yield b":path", self.path
        yield b":authority", self.authority
        yield from self.headers

    def __str__(self) -> str:
        """The request as a case that can be repeated."""
        version = "HTTP/2" if self.http2 else "HTTP/1.1"
        head = f"{version} {self.method!r} {self.path!r}" + (f" ({self.edit})" if self.edit else "")
        lines = [f"  {name!r}: {value!r}" for name, value in self.headers]
        body = "no body" if self.body is None else f"{len(self.body)} bytes"
        lines.append(f"  body: {body}")
        if self.credential is not None:
            lines.append(f"  token: {self.credential.header} {self.credential.claims}")
        return "\n".join([head, *lines])


@dataclass(slots=True)
class Response:
    """The response to a request; status 0 if the stream or the connection was closed without."""

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    trailers: list[Header] = field(default_factory=list)
    informational: list[Header] = field(default_factory=list)
    """Headers of all responses with a status of 1xx before this one."""

    def value(self, name: bytes) -> bytes:
        """The value of a header; empty without."""
        return next((value for key, value in self.headers if key == name), b"")

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]
