"""Decompresses bodies (RFC 9110 section 8.4), with a limit on the decompressed size."""

import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from extproc.convert.errors import (
    ConversionError,
    bad_model_response,
    quoted,
    response_too_large,
)
from extproc.convert.limits import ConversionLimits
from sluice.contract.reasons import Reason

_FIELD = "content-encoding"
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS

_MAX_MEMBERS = 64
"""Maximum members of a gzip body (RFC 1952 section 2.2) and frames of a zstd body (RFC 8878 section
3.1). Senders use one. The rest of the body is copied after each member, so the time grows with the
square of the number of members."""

_ZSTD_WINDOW_LOG = 23
"""Windows of more than 8 MiB are refused, as RFC 9659 demands for the content coding zstd."""

ACCEPTED_CODINGS: Final = "gzip, deflate, br, zstd"
"""Content codings of bodies, as the value of `accept-encoding` (RFC 7694)."""

_ALIASES = {"x-gzip": "gzip"}


def decompression_memory(size: int, codings: Sequence[str], limit: int) -> int:
    """Bytes that `decompress` holds at most, with the body of `size` bytes.

    Each coding takes its data, a copy of them while parts are joined, and the decoder. A body of
    several members is copied once more.
    """
    decoder = max(_CODINGS[coding].decoder_size for coding in codings)
    return 2 * size + decoder + 2 * len(codings) * (limit + 1)


def decompress(body: bytes, codings: Sequence[str], limit: int) -> bytes:
    """Remove the codings, the last one first. The result has at most `limit` bytes.

    Raises ConversionError: 400 for data that cannot be decompressed, 413 for a longer result.
    """
    for coding in reversed(codings):
        body = _CODINGS[coding].decompress(body, limit)
    return body


def decompress_response(body: bytes, codings: Sequence[str], limit: int) -> bytes:
    """Remove the codings of a response in the same way. Raises ConversionError (502)."""
    try:
        return decompress(body, codings, limit)
    except ConversionError as error:
        if error.reason is Reason.BODY_TOO_LARGE:
            raise response_too_large(error.detail) from None
        raise bad_model_response(error.detail) from None


def response_codings(content_encoding: str, limits: ConversionLimits) -> list[str]:
    """The content codings of a response. Raises ConversionError (502) if one is not supported."""
    try:
        return request_codings(content_encoding, limits)
    except ConversionError as error:
        raise ConversionError(
            Reason.UNKNOWN_RESPONSE_CODING, "response", f"{_FIELD} {error.detail}"
        ) from None


def request_codings(content_encoding: str, limits: ConversionLimits) -> list[str]:
    """The content codings of a request, without identity.

    Raises ConversionError (415) if one is not supported, or if they are too many.
    """
    if not content_encoding:
        return []
    names = [name.strip().lower() for name in content_encoding.split(",")]
    codings = [_ALIASES.get(name, name) for name in names if name not in ("", "identity")]
    if len(codings) > limits.max_codings:
        raise ConversionError(
            Reason.TOO_MANY_CODINGS, _FIELD, f"must name at most {limits.max_codings} codings"
        )
    for coding in codings:
        if coding not in _CODINGS:
            raise ConversionError(
                Reason.UNKNOWN_CODING,
                _FIELD,
                f"must be one of {ACCEPTED_CODINGS}, not {quoted(coding)}",
            )
    return codings


def _has_zlib_header(body: bytes) -> bool:
    # "deflate" means the zlib format, but some clients omit the zlib header (RFC 9110 section
    # 8.4.1.2).
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


class _Decoder(Protocol):
    """Decompresses one member. The interface of the modules zlib and zstd."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` bytes of the result."""

    @property
    def eof(self) -> bool:
        """Whether the member is complete."""

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""


def _gunzip(body: bytes, limit: int) -> bytes:
    return _members(body, lambda: zlib.decompressobj(_GZIP), zlib.error, limit)


def _inflate(body: bytes, limit: int) -> bytes:
    wbits = _ZLIB if _has_zlib_header(body) else _RAW
    return _members(body, lambda: zlib.decompressobj(wbits), zlib.error, limit, max_members=1)


def _decompress_zstd(body: bytes, limit: int) -> bytes:
    # Imported on first use: few peers send zstd.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return _members(body, lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError, limit)


def _members(
    body: bytes,
    decoder_of_member: Callable[[], _Decoder],
    error: type[Exception],
    limit: int,
    max_members: int = _MAX_MEMBERS,
) -> bytes:
    """Decompress one member after the other. `error` is what the decoders raise."""
    pieces: list[bytes] = []
    remaining = limit + 1
    while body:
        if len(pieces) == max_members:
            raise _broken(
                "more data follow the compressed data"
                if max_members == 1
                else f"more than {max_members} members"
            )
        decoder = decoder_of_member()
        try:
            piece = decoder.decompress(body, remaining)
        except error as raised:
            raise _broken(str(raised)) from None
        pieces.append(piece)
        remaining -= len(piece)
        if remaining <= 0:
            raise _too_large(limit)
        if not decoder.eof:
            raise _broken("the data are truncated")
        body = decoder.unused_data
    return b"".join(pieces)


def _decompress_brotli(body: bytes, limit: int) -> bytes:
    # Imported on first use: few peers send brotli.
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


@dataclass(frozen=True, slots=True)
class _Coding:
    """How one content coding is removed."""

    decompress: Callable[[bytes, int], bytes]
    """Decompresses a body, up to a number of bytes."""
    decoder_size: int
    """Bytes that the decoder holds at most: the window that a sender may choose, and tables."""


_CODINGS: Final = {
    "gzip": _Coding(_gunzip, 64 << 10),
    "deflate": _Coding(_inflate, 64 << 10),
    "br": _Coding(_decompress_brotli, 21 << 20),
    "zstd": _Coding(_decompress_zstd, 10 << 20),
}


def _broken(cause: str) -> ConversionError:
    return ConversionError(Reason.BROKEN_CODING, "body", f"cannot be decompressed: {cause}")


def _too_large(limit: int) -> ConversionError:
    return ConversionError(Reason.BODY_TOO_LARGE, "body", f"must be at most {limit} bytes")
