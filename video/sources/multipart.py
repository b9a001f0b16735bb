"""Splits multipart bodies of cameras into parts (RFC 2046, 5.1). Pure: bytes in, parts out.

Cameras differ: some name a boundary that already begins with its dashes, some end lines with LF
only, and some send no `Content-Length`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from video.sources.limits import MAX_FRAME_BYTES

MAX_HEADER_BYTES: Final = 16 << 10
"""Bytes of the header of a part, and of what is before it."""


_DASHES: Final = b"--"
_EMPTY_LINE, _SHORT_EMPTY_LINE = b"\r\n\r\n", b"\n\n"


class MultipartError(ValueError):
    """The body is not multipart, or a part is too large."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part. The names of its headers are in lower case."""

    headers: dict[str, str]
    body: bytes


class MultipartParser:
    """Takes the bytes of a body, and gives its parts as soon as they are complete."""

    def __init__(self, boundary: str) -> None:
        # Both `--NAME` and `----NAME` contain this for a boundary that was written as `--NAME`.
        self._delimiter = _DASHES + boundary.encode("latin-1").removeprefix(_DASHES)
        self._strips_dashes = boundary.startswith("--")
        self._buffer = bytearray()
        self._searched = 0
        self._headers: dict[str, str] | None = None
        self._length: int | None = None
        self.ended = False
        """Whether the end of the body was read (the delimiter with two dashes after it)."""

    def feed(self, chunk: bytes) -> Iterator[Part]:
        """Take bytes. Raises MultipartError."""
        self._buffer += chunk
        while not self.ended:
            if self._headers is None and not self._read_headers():
                return
            body = self._read_body()
            if body is None:
                return
            yield Part(self._headers or {}, body)
            self._headers = None

    def _read_headers(self) -> bool:
        """Read a delimiter and the headers after it. False if they are not complete."""
        buffer = self._buffer
        start = buffer.find(self._delimiter)
        if start < 0:
            if len(buffer) > MAX_HEADER_BYTES:
                raise MultipartError("the body has no boundary where a part must begin")
            return False
        begin = start + len(self._delimiter)
        if buffer.startswith(_DASHES, begin):
            self.ended = True
            return False
        end, size = _end_of_headers(buffer, begin)
        if max(end, len(buffer) if end < 0 else 0) - start > MAX_HEADER_BYTES:
            raise MultipartError(f"the header of a part is larger than {MAX_HEADER_BYTES} bytes")
        if end < 0:
            return False
        self._headers = _parse_headers(buffer[begin:end].decode("latin-1"))
        self._length = _content_length(self._headers)
        del buffer[: end + size]
        self._searched = 0
        return True

    def _read_body(self) -> bytes | None:
        """Take the body of a part from the buffer, if it is complete."""
        buffer, end = self._buffer, self._length
        if end is None:
            end = buffer.find(self._delimiter, self._searched)
            if end < 0:
                if len(buffer) > MAX_FRAME_BYTES:
                    raise MultipartError(f"a part is larger than {MAX_FRAME_BYTES >> 20} MiB")
                self._searched = max(0, len(buffer) - len(self._delimiter) + 1)
                return None
        elif len(buffer) < end:
            return None
        body = bytes(memoryview(buffer)[:end])
        del buffer[:end]
        return body if self._length is not None else self._without_line_end(body)

    def _without_line_end(self, body: bytes) -> bytes:
        """The line end before a delimiter belongs to the delimiter."""
        if self._strips_dashes:
            body = body.removesuffix(_DASHES)
        return body.removesuffix(b"\n").removesuffix(b"\r")


def _end_of_headers(buffer: bytearray, begin: int) -> tuple[int, int]:
    """Where the empty line after the headers is, and its size with the line end before it."""
    # Without limits, each of many small parts would search all that follows it.
    limit = begin + MAX_HEADER_BYTES
    end = buffer.find(_EMPTY_LINE, begin, limit)
    short = buffer.find(_SHORT_EMPTY_LINE, begin, limit if end < 0 else end)
    return (end, len(_EMPTY_LINE)) if short < 0 else (short, len(_SHORT_EMPTY_LINE))


def _parse_headers(text: str) -> dict[str, str]:
    headers = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers


def _content_length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise MultipartError(f"Content-Length {text[:20]!r} of a part is not a number")
    if int(text) > MAX_FRAME_BYTES:
        raise MultipartError(f"a part is larger than {MAX_FRAME_BYTES >> 20} MiB")
    return int(text)
