"""The request, as decisions read it."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

HEADER_OVERHEAD = 32
"""Bytes that HTTP/2 counts for each header in addition to its name and value (RFC 9113)."""

PRINTABLE = bytes(range(0x20, 0x7F))
"""Printable ASCII. HTTP also allows tabs and bytes from 0x80 in header values."""


class JoinedHeaders(dict[str, bytes]):
    """Headers by name. The values of repeated headers are joined by ", " (RFC 9110 section 5.3).

    The decision must not ignore a value that the model server might read. A second `authorization`
    or `x-model-version` therefore makes the joined value invalid.
    """

    __slots__ = ("repeated_bytes",)

    repeated_bytes: int
    """Bytes that the headers take in HTTP/2 in addition to names and joined values: Envoy forwards
    repeated headers as they are, each with its name."""

    def __init__(self, pairs: Iterable[tuple[str, bytes]]) -> None:
        super().__init__()
        self.repeated_bytes = 0
        for name, value in pairs:
            if name in self:
                self[name] += b", " + value
                self.repeated_bytes += len(name) + HEADER_OVERHEAD - len(b", ")
            else:
                self[name] = value


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body.

    `headers` have lower-case names and include pseudo-headers (`:path`); if headers
    are repeated, they are `JoinedHeaders`. `now` is in seconds since the epoch.
    """

    headers: Mapping[str, bytes]
    has_body: bool
    now: float

    @property
    def method(self) -> bytes:
        """The HTTP method."""
        return self.headers.get(":method", b"")

    @property
    def target(self) -> bytes:
        """The path and the query. Envoy has normalized the path."""
        return self.headers.get(":path", b"")

    @property
    def unprintable_header(self) -> str | None:
        """The first header whose value contains more than printable ASCII; None if there is none.

        Every header is read in full. Decisions read this only for gRPC.
        """
        if not b"".join(self.headers.values()).translate(None, PRINTABLE):
            return None
        return next(n for n, value in self.headers.items() if value.translate(None, PRINTABLE))

    def header_bytes(self, ignored: Container[str]) -> int:
        """The size of the headers in HTTP/2 (RFC 9113 section 6.5.2), without the ignored names.

        A repeated header whose name is ignored counts in part, so the size may be too large.
        """
        headers = self.headers
        repeated = headers.repeated_bytes if isinstance(headers, JoinedHeaders) else 0
        return repeated + sum(
            len(name) + len(value) + HEADER_OVERHEAD
            for name, value in headers.items()
            if name not in ignored
        )

    @property
    def is_websocket(self) -> bool:
        """Whether the client requests an upgrade to WebSocket. Such a request has no media type."""
        return self.headers.get("upgrade", b"").lower() == b"websocket"
