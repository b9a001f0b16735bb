"""Header blocks of gRPC responses (PROTOCOL-HTTP2.md, "Responses").

No block refers to the dynamic table, so the constants are valid on every connection.
"""

from typing import Final, NamedTuple

from extproc.rpc import StatusCode
from extproc.transport.http2.header_blocks import encode_literal

_STATUS_200: Final = b"\x88"  # static table entry 8
_CONTENT_TYPE: Final = encode_literal(b"content-type", b"application/grpc")

ACCEPT_ENCODING: Final = encode_literal(b"grpc-accept-encoding", b"identity,gzip")
RESPONSE_HEADERS: Final = _STATUS_200 + _CONTENT_TYPE
OK_TRAILERS: Final = encode_literal(b"grpc-status", b"0")

MAX_DETAILS: Final = 4096
"""Bytes of an encoded grpc-message: clients limit the size of trailers (8 KiB is common)."""


class CallRefusal(NamedTuple):
    """A response that depends on the request headers only."""

    block: bytes
    body: bytes | None
    """None for a gRPC status, which is in the block."""


def trailers(code: StatusCode, details: str) -> bytes:
    if code == StatusCode.OK and not details:
        return OK_TRAILERS
    block = encode_literal(b"grpc-status", b"%d" % code)
    if details:
        block += encode_literal(b"grpc-message", _percent_encode(details))
    return block


def trailers_only(code: StatusCode, details: str, more: bytes = b"") -> bytes:
    """The block of a response without messages: headers and trailers in one."""
    return RESPONSE_HEADERS + more + trailers(code, details)


def refusal(code: StatusCode, details: str, more: bytes = b"") -> CallRefusal:
    return CallRefusal(trailers_only(code, details, more), None)


def http_refusal(status: int, text: str) -> CallRefusal:
    """A plain HTTP response to a request that is not gRPC."""
    body = text.encode() + b"\n"
    block = encode_literal(b":status", b"%d" % status)
    block += encode_literal(b"content-type", b"text/plain")
    return CallRefusal(block + encode_literal(b"content-length", b"%d" % len(body)), body)


def _percent_encode(text: str) -> bytes:
    """Section "Percent-Encoding": everything but printable ASCII without `%` is encoded."""
    encoded = bytearray()
    for byte in text.encode("utf-8", "replace"):
        if len(encoded) > MAX_DETAILS - 3:
            break
        if 0x20 <= byte <= 0x7E and byte != 0x25:
            encoded.append(byte)
        else:
            encoded += b"%%%02X" % byte
    return bytes(encoded)
