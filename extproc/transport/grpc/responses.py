"""The header blocks of gRPC responses (PROTOCOL-HTTP2.md, "Responses"), encoded once where they are
always the same. None refers to the dynamic table, see `http2.fields`.
"""

from typing import Final, NamedTuple

from extproc.rpc import StatusCode
from extproc.transport.http2.fields import literal

_STATUS_200: Final = b"\x88"  # static table entry 8
_GRPC: Final = literal(b"content-type", b"application/grpc")

ACCEPT_ENCODING: Final = literal(b"grpc-accept-encoding", b"identity,gzip")
HEADERS: Final = _STATUS_200 + _GRPC
OK: Final = literal(b"grpc-status", b"0")

MAX_DETAILS: Final = 4096
"""Bytes of a status message: peers limit the size of trailers (8 KiB is common)."""


class CallRefusal(NamedTuple):
    """A response that is known as soon as the headers are."""

    block: bytes
    body: bytes | None
    """None for a gRPC status, which stands in the block."""


def trailers(code: StatusCode, details: str) -> bytes:
    if code == StatusCode.OK and not details:
        return OK
    block = literal(b"grpc-status", b"%d" % code)
    if details:
        block += literal(b"grpc-message", _percent_encoded(details))
    return block


def trailers_only(code: StatusCode, details: str, more: bytes = b"") -> bytes:
    return HEADERS + more + trailers(code, details)


def refusal(code: StatusCode, details: str, more: bytes = b"") -> CallRefusal:
    return CallRefusal(trailers_only(code, details, more), None)


def http_refusal(status: int, text: str) -> CallRefusal:
    """What is no gRPC request gets a plain HTTP answer."""
    body = text.encode() + b"\n"
    block = literal(b":status", b"%d" % status) + literal(b"content-type", b"text/plain")
    return CallRefusal(block + literal(b"content-length", b"%d" % len(body)), body)


def _percent_encoded(text: str) -> bytes:
    """Section "Percent-Encoding": printable ASCII but `%` stands for itself."""
    encoded = bytearray()
    for byte in text.encode("utf-8", "replace"):
        if len(encoded) > MAX_DETAILS - 3:
            break
        if 0x20 <= byte <= 0x7E and byte != 0x25:
            encoded.append(byte)
        else:
            encoded += b"%%%02X" % byte
    return bytes(encoded)
