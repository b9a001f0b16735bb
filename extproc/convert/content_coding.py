"""Undoes a body's content codings (RFC 9110 section 8.4), never producing more than a limit."""

import zlib

from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from sluice.contract.reasons import Reason

_FIELD = "content-encoding"
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS

_MOST_MEMBERS = 64
"""Of a gzip file (RFC 1952 section 2.2); clients send one."""

_TAKEN = "gzip, deflate, br"


def decoded(body: bytes, content_encoding: str, limits: ConversionLimits) -> bytes:
    """The body without its codings: gzip, deflate, br or identity, the last named first.

    Raises ConversionError: 415 for other codings, 400 for broken data, 413 above `limits.max_body`.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if len(codings) > limits.max_codings:
        raise ConversionError(
            Reason.TOO_MANY_CODINGS, _FIELD, f"at most {limits.max_codings} codings"
        )
    for coding in reversed(codings):
        body = _undone(body, coding, limits.max_body)
    if len(body) > limits.max_body:
        raise _too_large(limits.max_body)
    return body


def _undone(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip"):
        return _inflated(body, _GZIP, limit)
    if coding == "deflate":
        return _inflated(body, _ZLIB if _has_zlib_header(body) else _RAW, limit)
    if coding == "br":
        return _brotli(body, limit)
    raise ConversionError(Reason.UNKNOWN_CODING, _FIELD, f"{coding[:40]!r} is not one of {_TAKEN}")


def _has_zlib_header(body: bytes) -> bool:
    # "deflate" means zlib, yet some clients send it raw (RFC 9110 section 8.4.1.2, note).
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflated(body: bytes, wbits: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    room = limit + 1
    while body:
        # What follows a member is copied to look for the next: without a bound, for ever.
        if len(pieces) == _MOST_MEMBERS:
            raise _broken(f"has over {_MOST_MEMBERS} gzip members")
        decoder = zlib.decompressobj(wbits)
        try:
            piece = decoder.decompress(body, room)
        except zlib.error as error:
            raise _broken(str(error)) from None
        pieces.append(piece)
        room -= len(piece)
        if room <= 0:
            raise _too_large(limit)
        if not decoder.eof:
            raise _broken("the data end early")
        body = decoder.unused_data
        if body and wbits != _GZIP:
            raise _broken("something follows the compressed data")
    return b"".join(pieces)


def _brotli(body: bytes, limit: int) -> bytes:
    # Imported late: few clients send it.
    import brotli

    decoder = brotli.Decompressor()
    pieces: list[bytes] = []
    room = limit + 1
    try:
        piece = decoder.process(body, output_buffer_limit=room)
        while True:
            pieces.append(piece)
            room -= len(piece)
            if room <= 0:
                raise _too_large(limit)
            if decoder.is_finished():
                return b"".join(pieces)
            if decoder.can_accept_more_data() or not piece:
                raise _broken("the data end early")
            piece = decoder.process(b"", output_buffer_limit=room)
    except brotli.error as error:
        raise _broken(str(error)) from None


def _broken(detail: str) -> Exception:
    return ConversionError(Reason.BROKEN_CODING, "body", f"cannot be decompressed: {detail}")


def _too_large(limit: int) -> Exception:
    return ConversionError(Reason.BODY_TOO_LARGE, "body", f"is larger than {limit} bytes")
