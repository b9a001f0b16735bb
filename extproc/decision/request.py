"""The request, as decisions read it."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

PRINTABLE = bytes(range(0x20, 0x7F))
"""Printable ASCII. HTTP also allows tabs and bytes from 0x80 in header values."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body.

    `headers` have lower-case names and include pseudo-headers (`:path`); the values of a repeated
    header are joined (see `join_headers`). `now` is in seconds since the epoch.
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
        """The size of the headers in HTTP/2 (RFC 9113 section 6.5.2), without the ignored names."""
        return sum(
            len(name) + len(value) + 32
            for name, value in self.headers.items()
            if name not in ignored
        )

    @property
    def is_websocket(self) -> bool:
        """Whether the client requests an upgrade to WebSocket. Such a request has no media type."""
        return self.headers.get("upgrade", b"").lower() == b"websocket"


def join_headers(pairs: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Join the values of repeated headers by ", " (RFC 9110 section 5.3).

    The decision must not ignore a value that the model server might read. A second `authorization`
    or `x-model-version` therefore makes the joined value invalid.
    """
    joined: dict[str, bytes] = {}
    for name, value in pairs:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined
