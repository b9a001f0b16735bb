"""Checks the request headers of a gRPC call that passes unchanged to a gRPC server.

A server ends a call whose headers it cannot parse with a status that counts as a server failure.
gRPC's C core then fails every later call on the connection that has a header of that name: it marks
the name in its HPACK table as invalid (seen with grpcio 1.85). All clients share Envoy's
connections to the server, so one client could make the calls of all others fail.
"""

import re
from base64 import b64encode
from binascii import Error, a2b_base64
from collections.abc import Mapping

from extproc.decision.reads import Reads

_FORMS = {
    "grpc-timeout": (
        re.compile(rb"[0-9]{1,8}[HMSmun]"),
        "up to 8 digits and a unit (H, M, S, m, u or n)",
    ),
    "grpc-encoding": (re.compile(rb"identity|gzip|deflate"), "identity, gzip or deflate"),
    "grpc-accept-encoding": (re.compile(rb"[a-z0-9_, -]*"), "a list of content codings"),
    "grpc-previous-rpc-attempts": (re.compile(rb"[0-9]{1,9}"), "a number"),
}
"""Request headers of gRPC over HTTP/2, and the values that all servers accept."""

_BINARY = frozenset(("grpc-trace-bin", "grpc-tags-bin"))
"""Binary request headers with the prefix `grpc-`, defined by OpenCensus."""

_RESPONSE_HEADER = "lb-cost-bin"
"""A response header. The C core parses it in requests too, as a number with a name."""

READS = Reads(header_names=True, header_patterns=frozenset(("grpc-*", "*-bin")))
"""The parts of a request that `find_error` reads."""


def find_error(headers: Mapping[str, bytes]) -> str | None:
    """The error in the first header that some server could not parse; None if there is none."""
    for name in headers:
        if name in _FORMS:
            form, description = _FORMS[name]
            if not form.fullmatch(headers[name]):
                return f"{name} must be {description}"
        elif name == _RESPONSE_HEADER or (name.startswith("grpc-") and name not in _BINARY):
            return f"{name[:80]} is not a request header"
        elif name.endswith("-bin") and not _is_base64(headers[name]):
            return f"{name[:80]} must be one base64 value"
    return None


def _is_base64(value: bytes) -> bool:
    """Whether the value is base64 (RFC 4648), with full padding or none, and zero trailing bits.

    grpc-go ends a call with other padding as INTERNAL, which would count as the server's failure.
    Joined headers of one name are refused too: not every server splits them at the comma.
    """
    digits = value.rstrip(b"=")
    try:
        decoded = a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except Error:
        return False
    padded = b64encode(decoded)
    return value in (padded, padded.rstrip(b"="))
