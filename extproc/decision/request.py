"""What a decision is made on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """A request's headers, without its body.

    `headers` have lower-case names, pseudo-headers (`:path`) among them; a name that came more than
    once has its values joined (see `join_headers`). `now` is in seconds since the epoch.
    """

    headers: Mapping[str, bytes]
    has_body: bool
    now: float

    @property
    def method(self) -> bytes:
        """The method."""
        return self.headers.get(":method", b"")

    @property
    def path(self) -> bytes:
        """The path as Envoy normalised it, without its query."""
        return self.headers.get(":path", b"").partition(b"?")[0]


def join_headers(pairs: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Join the values of names that came twice by ", " (RFC 9110 section 5.3).

    A second `authorization` or `x-model-version` can so only spoil the first, never hide behind it.
    """
    joined: dict[str, bytes] = {}
    for name, value in pairs:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined
