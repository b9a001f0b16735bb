"""The headers that gRPC gives a meaning, in a call that goes to a server of gRPC.

What a server cannot read there, it answers as a failure of its own. One on gRPC's C core does so
for every later call on the connection that has a header of that name, whoever sent it: the name is
in its HPACK table, and with it that it could not be read (seen with grpcio 1.85). The connections
are Envoy's, so they are everyone's.
"""

import re
from base64 import b64encode
from binascii import Error, a2b_base64
from collections.abc import Mapping

from extproc.decision.reads import Reads

_FORMS = {
    "grpc-timeout": (re.compile(rb"[0-9]{1,8}[HMSmun]"), "up to 8 digits, then H, M, S, m, u or n"),
    "grpc-encoding": (re.compile(rb"identity|gzip|deflate"), "identity, gzip or deflate"),
    "grpc-accept-encoding": (re.compile(rb"[a-z0-9_, -]*"), "names of codings"),
    "grpc-previous-rpc-attempts": (re.compile(rb"[0-9]{1,9}"), "a number"),
}
"""Headers of requests (gRPC over HTTP/2), and the values that all servers take."""

_BINARY = frozenset(("grpc-trace-bin", "grpc-tags-bin"))
"""Those of them that are binary, from OpenCensus."""

_OF_RESPONSES = "lb-cost-bin"
"""The C core reads it in requests too, as a number with a name."""

READS = Reads(header_names=True, header_patterns=frozenset(("grpc-*", "*-bin")))
"""The parts of a request that `find_error` reads."""


def find_error(headers: Mapping[str, bytes]) -> str | None:
    """What is wrong with the first header that some server could not read; None: nothing is."""
    for name in headers:
        if name in _FORMS:
            form, words = _FORMS[name]
            if not form.fullmatch(headers[name]):
                return f"{name} is not {words}"
        elif name == _OF_RESPONSES or (name.startswith("grpc-") and name not in _BINARY):
            return f"{name[:80]} is no header of requests"
        elif name.endswith("-bin") and not _is_base64(headers[name]):
            return f"{name[:80]} is not one value in base64"
    return None


def _is_base64(value: bytes) -> bool:
    """Whether it is RFC 4648's, padded in full or not at all, with nothing in its last bits.

    grpc-go ends a call with other padding as INTERNAL, which would count as the server's failure.
    A comma that joins two headers of one name looks like one within a value, which not all read.
    """
    digits = value.rstrip(b"=")
    try:
        decoded = a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except Error:
        return False
    padded = b64encode(decoded)
    return value in (padded, padded.rstrip(b"="))
