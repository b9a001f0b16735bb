"""The headers of a client that the requests for its frames carry, so that the gateway decides on
each frame as on a request of this client."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sluice.contract import headers

Metadata = tuple[tuple[str, str], ...]

_OF_THE_CONNECTION: Final = frozenset((
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "http2-settings", "proxy-authenticate", "proxy-authentication-info",
))  # fmt: skip
"""Headers between two servers (RFC 9110 section 7.6.1)."""

_OF_THE_UPLOAD: Final = frozenset((
    "host", "user-agent", "range", "expect", "date", "via", "forwarded", "priority",
    headers.REQUEST_ID, headers.MODEL_NAME,
))  # fmt: skip
"""Headers that belong to the request of the client, or that each request for a frame has itself."""

_PREFIXES: Final = (
    ":", "accept", "content-", "if-", "grpc-", "x-envoy-", "x-forwarded-", headers.INTERNAL_PREFIX,
)  # fmt: skip

_BINARY_SUFFIX: Final = "-bin"
"""gRPC encodes the values of such headers itself."""

_NAME: Final = re.compile("[0-9a-z_.-]+")
_VALUE: Final = re.compile("[ -~]*")
"""What metadata of gRPC may contain (gRPC over HTTP/2, Custom-Metadata)."""

_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""W3C Trace Context, level 1."""


def forwarded_headers(received: Iterable[tuple[str, str]], span: str) -> Metadata:
    """The end-to-end headers of a request, as metadata of gRPC calls.

    `received` has names in lower case. `span`: 16 hexadecimal digits, the id of the span of the
    upload, which becomes the parent of the calls. Left out are headers about the connection or the
    body, those that the gateway or Envoy sets, and those that metadata cannot represent. If
    credentials cannot be represented, the gateway refuses the calls.
    """
    fields = [(name, value.strip(" \t")) for name, value in received]
    named = _named_by_connection(value for name, value in fields if name == "connection")
    forwarded = [
        (name, _child(value, span) if name == headers.TRACEPARENT else value)
        for name, value in fields
        if _is_end_to_end(name) and name not in named and _is_metadata(name, value)
    ]
    return tuple((name, value) for name, value in forwarded if value or name != headers.TRACEPARENT)


def call_metadata(caller: Sequence[tuple[str, str]], model: str, version: str | None) -> Metadata:
    """The metadata of the calls: the headers of the caller, and the model.

    `version` replaces the one that the caller requests; None: the caller's, if there is one.
    """
    named = [(headers.MODEL_NAME, model)]
    if version is not None:
        named.append((headers.MODEL_VERSION, version))
    replaced = {name for name, _ in named}
    return (*(field for field in caller if field[0] not in replaced), *named)


def _named_by_connection(values: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lower() for value in values for name in value.split(","))


def _is_end_to_end(name: str) -> bool:
    if name in _OF_THE_CONNECTION or name in _OF_THE_UPLOAD:
        return False
    return not name.startswith(_PREFIXES)


def _is_metadata(name: str, value: str) -> bool:
    if name.endswith(_BINARY_SUFFIX) or _NAME.fullmatch(name) is None:
        return False
    return _VALUE.fullmatch(value) is not None


def _child(traceparent: str, span: str) -> str:
    """The header of a child span; empty for a header that is not valid."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return "" if match is None else f"00-{match[1]}-{span}-{match[3]}"
