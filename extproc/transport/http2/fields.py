"""Validation of request fields (RFC 9113 sections 8.2 and 8.3)."""

import re
from functools import lru_cache

from extproc.transport.http2.errors import ErrorCode, Http2StreamError
from extproc.transport.http2.header_blocks import Fields

_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_is_bad_value = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z").search
_REQUIRED = {b":method", b":scheme", b":path"}
_PSEUDO = _REQUIRED | {b":authority"}
_CONNECTION_SPECIFIC = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
}


def check_request(fields: Fields) -> int:
    """Validate the fields of a request; returns its content-length or -1.

    Raises Http2StreamError for a malformed request.
    """
    pseudo: dict[bytes, bytes] = {}
    regular: Fields = []
    for field in fields:
        name, value = field
        if not name.startswith(b":"):
            regular.append(field)
            continue
        if regular:
            raise _malformed("pseudo-header after a regular field")
        if name not in _PSEUDO or name in pseudo:
            raise _malformed("unknown or repeated pseudo-header")
        if _is_bad_value(value):
            raise _malformed("forbidden character in a pseudo-header")
        pseudo[name] = value
    if not pseudo.keys() >= _REQUIRED or not pseudo[b":path"]:
        raise _malformed("missing pseudo-header")
    check_regular(regular)
    return _content_length(regular)


def check_regular(fields: Fields) -> None:
    """Validate regular fields, of headers or trailers; raises Http2StreamError."""
    for name, value in fields:
        _check_field(name, value)


@lru_cache(maxsize=256)  # most fields repeat; 256 fields of 32 KiB are at most 8 MiB
def _check_field(name: bytes, value: bytes) -> None:
    if not _is_name(name) or _is_bad_value(value):
        raise _malformed("forbidden character in a field")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
        raise _malformed("connection-specific field")


def _content_length(fields: Fields) -> int:
    lengths = {value for name, value in fields if name == b"content-length"}
    if not lengths:
        return -1
    value = lengths.pop()
    if lengths or not value.isdigit() or len(value) > 18:
        raise _malformed("content-length is not one number")
    return int(value)


def _malformed(reason: str) -> Http2StreamError:
    return Http2StreamError(ErrorCode.PROTOCOL_ERROR, reason)
