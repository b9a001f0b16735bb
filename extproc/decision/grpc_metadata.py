"""Checks the request headers (metadata) of a gRPC call that passes unchanged to a gRPC server.

If a server cannot parse the headers of a call, it ends the call with a status that counts as a
failure of the server. In addition, gRPC's C core marks the name of the invalid header in its HPACK
table, and fails every later call on this connection that has a header of this name (seen with
grpcio 1.85). All clients share Envoy's connections to the server, so one client could make the
calls of other clients fail.
"""

import re
from base64 import b64encode
from binascii import Error, a2b_base64

from extproc.decision.reads import Reads
from extproc.decision.request import Request

_VALID_VALUES = {
    "grpc-timeout": (
        re.compile(rb"[0-9]{1,8}[HMSmun]"),
        "up to 8 digits and a unit (H, M, S, m, u or n)",
    ),
    "grpc-encoding": (re.compile(rb"identity|gzip|deflate"), "identity, gzip or deflate"),
    "grpc-accept-encoding": (re.compile(rb"[a-z0-9_, -]*"), "a list of content codings"),
    "grpc-previous-rpc-attempts": (re.compile(rb"[0-9]{1,9}"), "a number"),
}
"""Request headers of gRPC over HTTP/2: values that all servers accept, and their description."""

_OPENCENSUS_HEADERS = frozenset(("grpc-trace-bin", "grpc-tags-bin"))
"""Binary request headers with the prefix `grpc-`. OpenCensus defines them."""

_RESPONSE_HEADER = "lb-cost-bin"
"""A response header. The C core also parses it in requests, and accepts only its own format."""

_NAME = re.compile(r"[0-9a-z_.-]+")
"""Names of metadata (gRPC over HTTP/2: Header-Name). HTTP also allows other punctuation."""

_NAMES = re.compile(r"[0-9a-z_.:-]*")
"""All names of a request, joined. Only names of pseudo-headers contain a colon."""

READS = Reads(
    header_names=True, header_patterns=frozenset(("grpc-*", "*-bin")), unprintable_header=True
)
"""The parts of a request that `find_error` reads."""


def is_metadata_name(name: str) -> bool:
    """Whether gRPC allows this name of a header in metadata."""
    return _NAME.fullmatch(name) is not None


def is_metadata_value(value: str) -> bool:
    """Whether gRPC allows this value of a header in metadata."""
    return value.isascii() and value.isprintable()


def find_error(request: Request) -> str | None:
    """The error in the first header that some servers cannot parse; None if there is no error."""
    headers = request.headers
    if not _NAMES.fullmatch("".join(headers)):
        invalid = next(name for name in headers if not _NAMES.fullmatch(name))
        return f"{invalid[:80]} is not a name that gRPC allows"
    unprintable = request.unprintable_header
    if unprintable is not None:
        return f"{unprintable[:80]} must consist of printable ASCII characters"
    for name in headers:
        if name in _VALID_VALUES:
            pattern, description = _VALID_VALUES[name]
            if not pattern.fullmatch(headers[name]):
                return f"{name} must be {description}"
        elif name == _RESPONSE_HEADER or (
            name.startswith("grpc-") and name not in _OPENCENSUS_HEADERS
        ):
            return f"{name[:80]} is not allowed in a request"
        elif name.endswith("-bin") and not _is_base64(headers[name]):
            return f"{name[:80]} must be one base64 value"
    return None


def _is_base64(value: bytes) -> bool:
    """Whether the value is base64 (RFC 4648) with zero trailing bits, and full padding or none.

    With other padding, grpc-go ends the call with INTERNAL, which would count as a failure of the
    server. A list of values is refused too: some servers do not split it at the comma.
    """
    digits = value.rstrip(b"=")
    try:
        decoded = a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except Error:
        return False
    padded = b64encode(decoded)
    return value in (padded, padded.rstrip(b"="))
