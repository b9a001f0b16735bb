"""Decompresses request bodies (RFC 9110 section 8.4), with a limit on the decompressed size."""

import zlib

from extproc.convert.errors import ConversionError, quoted
from extproc.convert.limits import ConversionLimits
from sluice.contract.reasons import Reason

_FIELD = "content-encoding"
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS

_MAX_MEMBERS = 64
"""Maximum members of a gzip body (RFC 1952 section 2.2). Clients send bodies with one member. zlib
copies the rest of the body after each member, so the time grows with the square of the number of
members."""

_SUPPORTED = "gzip, deflate, br"


def decompress(body: bytes, content_encoding: str, limits: ConversionLimits) -> bytes:
    """Decompress a body with the content codings gzip, deflate, br and identity.

    The last coding in the list is removed first. Raises ConversionError: 415 for other codings or
    too many codings, 400 for data that cannot be decompressed, 413 for a result of more than
    `limits.max_body` bytes.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if len(codings) > limits.max_codings:
        raise ConversionError(
            Reason.TOO_MANY_CODINGS, _FIELD, f"must name at most {limits.max_codings} codings"
        )
    for coding in reversed(codings):
        body = _decompress(body, coding, limits.max_body)
    if len(body) > limits.max_body:
        raise _too_large(limits.max_body)
    return body


def _decompress(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip"):
        return _inflate(body, _GZIP, limit)
    if coding == "deflate":
        return _inflate(body, _ZLIB if _has_zlib_header(body) else _RAW, limit)
    if coding == "br":
        return _decompress_brotli(body, limit)
    raise ConversionError(
        Reason.UNKNOWN_CODING, _FIELD, f"must be one of {_SUPPORTED}, not {quoted(coding)}"
    )


def _has_zlib_header(body: bytes) -> bool:
    # "deflate" means the zlib format, but some clients omit the zlib header (RFC 9110 section
    # 8.4.1.2).
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    remaining = limit + 1
    while body:
        if len(pieces) == _MAX_MEMBERS:
            raise _broken(f"more than {_MAX_MEMBERS} gzip members")
        decoder = zlib.decompressobj(wbits)
        try:
            piece = decoder.decompress(body, remaining)
        except zlib.error as error:
            raise _broken(str(error)) from None
        pieces.append(piece)
        remaining -= len(piece)
        if remaining <= 0:
            raise _too_large(limit)
        if not decoder.eof:
            raise _broken("the data are truncated")
        body = decoder.unused_data
        if body and wbits != _GZIP:
            raise _broken("more data follow the compressed data")
    return b"".join(pieces)


def _decompress_brotli(body: bytes, limit: int) -> bytes:
    # Imported on first use: few clients send brotli.
    import brotli

    decoder = brotli.Decompressor()
    pieces: list[bytes] = []
    remaining = limit + 1
    try:
        piece = decoder.process(body, output_buffer_limit=remaining)
        while True:
            pieces.append(piece)
            remaining -= len(piece)
            if remaining <= 0:
                raise _too_large(limit)
            if decoder.is_finished():
                return b"".join(pieces)
            if decoder.can_accept_more_data() or not piece:
                raise _broken("the data are truncated")
            piece = decoder.process(b"", output_buffer_limit=remaining)
    except brotli.error as error:
        raise _broken(str(error)) from None


def _broken(cause: str) -> ConversionError:
    return ConversionError(Reason.BROKEN_CODING, "body", f"cannot be decompressed: {cause}")


def _too_large(limit: int) -> ConversionError:
    return ConversionError(Reason.BODY_TOO_LARGE, "body", f"must be at most {limit} bytes")
